"""A small territory for the tests of Kafka's provisioning, as its files' contents."""

from __future__ import annotations

from typing import Any

from broker.core.territory import Territory, make_territory


def partner(name: str, *streams: str) -> dict[str, Any]:
    return {
        "name": name,
        "holding": f"h-{name}",
        "title": name.upper(),
        "streams": [{"name": s, "measure": s, "kind": "interval", "unit": "Wh"} for s in streams],
        "agreement_key": f"{name}+00000000+AAAA",
    }


def head(lanes: int = 2) -> dict[str, Any]:
    return {
        "name": "testville",
        "timezone": "Europe/Paris",
        "lanes": lanes,
        "areas": {"hierarchy": "iris-2026", "file": "areas.csv"},
    }


def territory(lanes: int = 2) -> Territory:
    """Partners `en-a` and `en-b`; `en-a` is a recipient of vacancy too, `ville` of vacancy and daily."""
    return make_territory(
        head(lanes),
        {
            "partners/en-a.yaml": partner("en-a", "power", "gas"),
            "partners/en-b.yaml": partner("en-b", "power"),
        },
        {
            "recipients/ville.yaml": {"name": "ville", "title": "Ville", "products": ["vacancy", "daily"]},
            "recipients/en-a.yaml": {"name": "en-a", "title": "Régie", "products": ["vacancy"]},
        },
    )

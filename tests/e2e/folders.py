"""A territory's folder from values, signed by keys made here: for tests with a territory of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from broker import operate
from broker.demo.territory import TRIAL_SECRET
from broker.edge.kafka.pki import write_private
from broker.edge.territory import TerritoryFolder, load_territory

HIERARCHY = "test-2026"
Stream = Mapping[str, Any]


def write_folder(
    home: Path,
    *,
    timezone: str,
    lanes: int,
    areas: Sequence[tuple[str, str, str]],
    partners: Mapping[str, Sequence[Stream]],
    policies: Sequence[Mapping[str, Any]],
    recipient: str = "city",
) -> TerritoryFolder:
    """Every partner is a holding of its own. areas: (area, parent, level). The broker's key is `home/keys`."""
    folder = home / "territory"
    signers = operate.make_signers(partners)
    _yaml(
        folder / "territory.yaml",
        {
            "name": "test",
            "timezone": timezone,
            "lanes": lanes,
            "areas": {"hierarchy": HIERARCHY, "file": "areas.csv"},
        },
    )
    (folder / "areas.csv").write_text("area,parent,level\n" + "".join(f"{a},{p},{v}\n" for a, p, v in areas))
    for name, streams in partners.items():
        _yaml(
            folder / "partners" / f"{name}.yaml",
            {
                "name": name,
                "holding": name,
                "title": name,
                "streams": list(streams),
                "agreement_key": signers[name].verifier.vkey,
            },
        )
    products = [str(policy["product"]) for policy in policies]
    _yaml(
        folder / "recipients" / f"{recipient}.yaml",
        {"name": recipient, "title": recipient, "products": products},
    )
    for policy in policies:
        _yaml(folder / "policies" / f"{policy['product']}.yaml", policy)
    write_private(home / "keys", TRIAL_SECRET.hex().encode())
    operate.sign_policies(load_territory(folder), signers)
    return load_territory(folder)


def _yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")

"""Promises about those who read a release and are in it themselves: what their own data leave over is judged
too."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from disclosure_world import Part, tree
from release_world import by_cell, product, run, units

from broker.core.products import Units
from broker.core.release import Decision

PARTNERS = ["energy-a", "energy-b", "energy-c"]
ONE = tree(1, 1)


def of_one_holding(found: Units) -> Units:
    """The same where all partners belong to one holding."""
    frames = {name: rows.with_columns(holding=pl.lit("group")) for name, rows in found.frames.items()}
    return replace(found, frames=frames)


def sisters(recipients: list[str], *counts: int, shared: int = 0) -> Decision:
    """Homes of one market: so many of each partner, all of one holding; `shared` ones of the first two."""
    owners = [partner for partner, n in zip(PARTNERS, counts, strict=False) for _ in range(n)]
    parts = [Part(i, partner, "E0C0I0", "flat", 30_000) for i, partner in enumerate(owners)]
    parts += [Part(1000 + i, p, "E0C0I0", "flat", 15_000) for i in range(shared) for p in PARTNERS[:2]]
    policy = product(
        ("join", "none"),
        ("recipients", recipients),
        (
            "measures",
            {
                "homes": {"kind": "count", "input": "energy"},
                "kwh": {"kind": "sum", "input": "energy", "unit": "kWh"},
            },
        ),
        ("disclosure.min_holdings", 1),
        ("disclosure.p_percent", 0),
    )
    return run(policy, of_one_holding(units(policy, {"energy": parts, "water": []})), ONE)


@pytest.mark.parametrize(
    ("recipients", "published"),
    [
        (["city"], True),
        (["energy-b"], True),  # it leaves 20 homes
        (["energy-a"], False),  # it leaves 3
        (["city", "energy-a"], False),
        (["public"], False),  # which is energy-a, too
    ],
)
def test_what_a_recipient_leaves_over_of_its_own_points_is_judged(
    recipients: list[str], published: bool
) -> None:
    decision = sisters(recipients, 20, 3)
    for measure in ("homes", "kwh"):
        row = by_cell(decision, measure)["E0", "*"]
        assert (row["status"] == "published") is published
        reason = "without_each_holding:reader energy-a:min_contributors:3<10"
        assert row["reasons"] == ("" if published else reason)


def test_a_recipients_sisters_are_one_rest() -> None:
    assert by_cell(sisters(["energy-a"], 20, 6, 4), "homes")["E0", "*"]["status"] == "published"
    assert by_cell(sisters(["energy-a"], 20, 5, 4), "homes")["E0", "*"]["status"] == "suppressed"


def test_what_a_recipient_subtracts_of_shared_homes_is_judged_too() -> None:
    """Less all its customers nobody is left; less its own part of the values three homes' other parts are."""
    decision = sisters(["energy-a"], 20, 0, shared=3)
    assert by_cell(decision, "homes")["E0", "*"]["status"] == "published"
    row = by_cell(decision, "kwh")["E0", "*"]
    assert row["reasons"] == "without_each_holding:reader energy-a:min_contributors:3<10"


def test_a_partner_that_is_alone_in_its_holding_is_judged_once() -> None:
    parts = [Part(i, PARTNERS[0] if i < 20 else PARTNERS[1], "E0C0I0", "flat", 30_000) for i in range(23)]
    policy = product(
        ("join", "none"),
        ("recipients", ["energy-a"]),
        ("measures", {"homes": {"kind": "count", "input": "energy"}}),
        ("disclosure.min_holdings", 1),
        ("disclosure.p_percent", 0),
    )
    row = by_cell(run(policy, units(policy, {"energy": parts, "water": []}), ONE), "homes")["E0", "*"]
    assert row["reasons"] == "without_each_holding:energy-a:min_contributors:3<10"

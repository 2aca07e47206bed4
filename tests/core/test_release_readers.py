"""Promises about partners of one holding: what one reads of the other, and what they know together."""

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


def regie(unknown: int) -> dict[str, list[Part]]:
    """A municipal holding of two partners has both of 60 homes and the energy alone of `unknown` more, all dark;
    140 homes are others'."""
    energy, water = [], []
    for i in range(200 + unknown):
        known, alone = i < 60, i >= 200
        supplier = "energy-a" if known or alone else PARTNERS[1 + i // 4 % 2]
        energy.append(Part(i, supplier, "E0C0I0", "flat", 0 if alone or i % 2 else 90_000))
        operator = "water-n" if known else "water-s"
        water.append(Part(i, operator, "E0C0I0", "flat", 0 if (i % 2 if alone else i // 2 % 2) else 10**9))
    return {"energy": energy, "water": water}


@pytest.mark.parametrize("unknown", [0, 1, 4, 9, 10, 20])
def test_what_two_partners_of_a_holding_know_together_is_not_unknown(unknown: int) -> None:
    policy = product(
        (
            "measures",
            {"vacant": {"kind": "count", "where": {"energy": "sum < 20000", "water": "sum < 300000"}}},
        )
    )
    found = units(policy, regie(unknown))
    city = pl.when(pl.col("partner").is_in(["energy-a", "water-n"])).then(pl.lit("city")).otherwise("holding")
    frames = {name: rows.with_columns(holding=city) for name, rows in found.frames.items()}
    apart = by_cell(run(policy, found, ONE), "vacant")["E0", "*"]
    together = by_cell(run(policy, replace(found, frames=frames), ONE), "vacant")["E0", "*"]
    assert apart["status"] == "published", apart["reasons"]  # control: two holdings
    # Of the homes that both serve the holding knows all; of the others at least five count and five do not.
    short = [reason for reason in together["reasons"].split(";") if reason.startswith("insider_margin:city")]
    assert bool(short) is (0 < unknown < 10), together["reasons"]

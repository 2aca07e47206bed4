"""Promises of what measures of one release say about each other: no linked measure gives a suppressed cell
away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from disclosure_world import Part, cells_of, tree
from release_world import AREAS, ENERGY, by_cell, decided, off, product, town, units

from broker.core.disclosure import linked
from broker.core.disclosure.secondary import determined
from broker.core.disclosure.table import build
from broker.core.release import Decision

LOW, HIGH = {"energy": "sum < 20000"}, {"energy": "sum >= 20000"}
SPLIT: dict[str, Any] = {
    "homes": {"kind": "count"},
    "low": {"kind": "count", "where": {**LOW}},
    "high": {"kind": "count", "where": {**HIGH}},
    "kwh": {"kind": "sum", "input": "energy", "unit": "kWh"},
    "kwh_low": {"kind": "sum", "input": "energy", "unit": "kWh", "where": {**LOW}},
    "mwh_high": {"kind": "sum", "input": "energy", "unit": "MWh", "where": {**HIGH}},
}
PARTS = {"homes": (True, True), "low": (True, False), "high": (False, True)}  # of the low, of the high
SUMS = dict(zip(("kwh", "kwh_low", "mwh_high"), PARTS.values(), strict=True))


def given_away(decision: Decision, places: list[tuple[str, str]], measures: dict[str, Any]) -> set[Any]:
    """The primarily suppressed cells of measures that the published ones determine; all places have low and
    high homes as far as anybody knows. Built from the truth, cell by cell; elimination over the rationals."""
    spots = sorted(set(places))
    rows: dict[bool, list[Any]] = {True: [], False: []}
    names = []
    for measure, halves in measures.items():
        for key, cell in by_cell(decision, measure).items():
            inside = [key in cells_of(*spot, AREAS) for spot in spots]
            row = [half and at for at in inside for half in halves]
            if cell["status"] == "published":
                rows[True].append(row)
            elif cell["primary"]:
                rows[False].append(row)
                names.append((measure, key))
    shape = (-1, 2 * len(spots))
    published, targets = (np.array(rows[kind], dtype=np.int8).reshape(shape) for kind in (True, False))
    known = determined(published, targets)
    return {name for name, exposed in zip(names, known, strict=True) if exposed}


@pytest.mark.parametrize("seed", range(3))
def test_measures_that_add_up_never_give_a_suppressed_cell_away(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = town(seed, 400)
    places = [(part.area, part.segment) for part in inputs["energy"]]
    policy = product(("measures", SPLIT))
    decision = decided(policy, inputs)
    assert not given_away(decision, places, PARTS)
    assert not given_away(decision, places, SUMS)
    for measure in SPLIT:
        assert any(row["status"] == "published" for row in by_cell(decision, measure).values()), measure
    monkeypatch.setattr(linked, "linked", lambda _membership: [])  # control: each measure by itself
    alone = decided(policy, inputs)
    assert given_away(alone, places, PARTS) and given_away(alone, places, SUMS)


def test_the_seven_homes_of_a_neighbourhood_are_not_what_two_published_counts_leave_over() -> None:
    parts = [
        Part(i, ENERGY[i % 3], "E0C0I0" if i < 60 else "E0C1I0", "flat", 100 if i < 7 else 30_000)
        for i in range(120)
    ]
    # Without the margin the count of the others is safe by itself.
    policy = product(("measures", SPLIT), ("disclosure.insider_margin", 0))
    decision = decided(policy, {"energy": parts, "water": parts}, tree(2, 1))
    for names in (("homes", "low", "high"), ("kwh", "kwh_low", "mwh_high")):
        everything, low, high = (by_cell(decision, name) for name in names)
        for key in (("E0C0I0", "*"), ("E0", "*")):
            assert low[key]["primary"], key
            assert everything[key]["status"] == "published", key  # the dearest stays
            assert high[key]["reasons"] == "secondary", key


def test_one_figure_under_two_names_is_published_under_both_or_under_none() -> None:
    # In the first neighbourhood one supplier has 70 of 90 homes: its share is protected, but only in the count
    # that names the input.
    suppliers = [["energy-a"] * 70 + ["energy-b"] * 10 + ["energy-c"] * 10, ENERGY * 30, ENERGY * 30]
    parts = [
        Part(100 * i + j, holding, f"E0C{i}I0", "flat", 30_000)
        for i, holdings in enumerate(suppliers)
        for j, holding in enumerate(holdings)
    ]
    measures = {
        "energy_homes": {"kind": "count", "input": "energy"},
        "premises": {"kind": "count"},
        "mwh": {"kind": "sum", "input": "energy", "unit": "MWh"},
        "kwh": {"kind": "sum", "input": "energy", "unit": "kWh"},
    }
    inputs = {"energy": parts, "water": [replace(part, holding="water-n") for part in parts]}
    decision = decided(product(("measures", measures)), inputs, tree(3, 1))
    market, joined = by_cell(decision, "energy_homes"), by_cell(decision, "premises")
    assert {key[0] for key, row in market.items() if row["primary"]} == {"E0C0", "E0C0I0"}
    assert not any(row["primary"] for row in joined.values())
    for one, other in ((market, joined), (by_cell(decision, "kwh"), by_cell(decision, "mwh"))):
        for key, row in one.items():
            assert not row["primary"] or other[key]["status"] == "suppressed", key
        assert {row["status"] for row in other.values()} == {"published", "suppressed"}


@pytest.mark.parametrize("nobody", ["low", "high"])
def test_a_condition_that_everybody_or_nobody_meets_is_not_told_by_its_opposite(nobody: str) -> None:
    value = 30_000 if nobody == "low" else 100
    parts = [Part(i, ENERGY[i % 3], f"E0C{i % 2}I0", "flat", value) for i in range(120)]
    inputs = {"energy": parts, "water": parts}
    always = "high" if nobody == "low" else "low"
    # Without the margin the count that everybody meets is safe by itself, and homes less it is the zero.
    margin = ("disclosure.insider_margin", 0)
    decision = decided(product(("measures", SPLIT), margin), inputs, tree(2, 1))
    for key, row in by_cell(decision, nobody).items():
        assert "zero_is_sensitive" in row["reasons"]
        shown = [by_cell(decision, name)[key]["status"] for name in ("homes", always)]
        assert shown.count("published") == 1, key
    # Nobody can know that everybody meets it: where only its own count is unsafe, that of all homes stays.
    few = {name: SPLIT[name] for name in ("homes", always)}
    decision = decided(product(("measures", few)), inputs, tree(2, 1))
    assert all(row["primary"] for row in by_cell(decision, always).values())
    assert all(row["status"] == "published" for row in by_cell(decision, "homes").values())


def membership(
    wheres: list[dict[str, str]], parts: list[Part], *changes: tuple[str, Any]
) -> linked.Membership:
    measures = {f"m{i}": {"kind": "count", "where": where} for i, where in enumerate(wheres)}
    policy = product(("measures", measures), *changes)
    given = units(policy, {"energy": parts, "water": [replace(p, value=10**6) for p in parts]})
    table = build(given.eligible, AREAS, policy.policy.areas.levels, ["E0"], segmented=True)
    return linked.memberships([*policy.policy.measures.values()], policy.policy, given, table)["E0"]


def homes(*values: int) -> list[Part]:
    return [Part(i, "energy-a", "E0C0I0", "flat", value) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("wheres", "values", "together"),
    [
        ([{}, {"energy": "sum < 10"}], [5, 15], []),
        ([{}, {"energy": "sum < 10", "water": "sum < 5000000"}], [5, 15], []),
        ([{}, {"energy": "sum < 10"}, {"energy": "sum >= 10"}], [5, 15], [0, 1, 2]),
        ([{}, {"energy": "sum < 10"}, {"energy": "sum > 9"}], [5, 15], [0, 1, 2]),
        ([{}, {"energy": "sum < 10"}, {"energy": "sum >= 20"}], [5, 15, 25], []),
        # Nobody lies between 10 and 20: what is not low is high.
        ([{}, {"energy": "sum < 10"}, {"energy": "sum >= 20"}], [5, 25], [0, 1, 2]),
        # Nobody is below 10, which nobody else can know.
        ([{}, {"energy": "sum < 10"}, {"energy": "sum >= 10"}], [15, 25], [0, 1, 2]),
        ([{}, {"energy": "sum >= 10"}], [15, 25], []),
        ([{}, {"energy": "sum < 10"}, {"energy": "sum < 20"}, {"energy": "sum < 30"}], [40], []),
        ([{"energy": "sum < 10"}, {"energy": "sum < 20"}, {"energy": "sum < 10"}], [5, 15, 25], [0, 2]),
        # A mean is no whole number: above 9 and below 10 there may be somebody.
        ([{}, {"energy": "mean < 10"}, {"energy": "mean > 9"}], [31 * 5, 31 * 15, 300], []),
    ],
)
def test_only_measures_that_add_up_are_linked(
    wheres: list[dict[str, str]], values: list[int], together: list[int]
) -> None:
    assert linked.linked(membership(wheres, homes(*values))) == together


def test_in_a_window_of_one_base_window_sum_mean_and_max_are_one_statistic() -> None:
    wheres = [{}, {"energy": "sum < 10"}, {"energy": "max >= 10"}, {"energy": "mean >= 10"}]
    parts = homes(15)  # nobody below: that the three are one cannot be read from the homes
    month, day = ("window.length", "P1M"), ("window.length", "P1D")
    assert linked.linked(membership(wheres, parts, day)) == [0, 1, 2, 3]
    assert linked.linked(membership(wheres, parts, month)) == []


def test_a_joint_condition_that_nobody_meets_is_still_a_figure_of_its_own() -> None:
    wheres = [{}, {"energy": "sum < 10", "water": "sum < 5000000"}, {"energy": "sum < 10"}]
    found = membership(wheres, homes(15, 25))
    assert found.any(axis=1).all() and linked.linked(found) == []


def test_without_rules_linked_measures_change_nothing() -> None:
    decision = decided(product(("measures", SPLIT), *off()), town(1))
    assert decision.summary.primary == decision.summary.secondary == 0

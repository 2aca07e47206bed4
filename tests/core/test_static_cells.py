"""Every cell of every margin that has a row, and no other; each is exactly the rows below it."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from static_world import World, random_world

from broker.core.errors import InputError, Refused
from broker.core.static.cells import build
from broker.core.static.hierarchy import Hierarchy


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), linked=st.booleans())
def test_the_cells_are_those_of_every_margin_that_has_a_row(seed: int, linked: bool) -> None:
    world = random_world(random.Random(seed), linked=linked)
    tables, _ = world.built()
    for name in world.tables:
        expected = world.cells(name)
        names = tables.names(name).rows()
        assert sorted(names) == sorted(expected)
        for cell, number in zip(names, tables.cells[name]["set"], strict=True):
            start, end = tables.sets.starts[number], tables.sets.starts[number + 1]
            assert world.rows_of(tables, tables.sets.members[start:end]) == expected[cell]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_cells_of_the_same_rows_are_one_figure_also_across_tables(seed: int) -> None:
    world = random_world(random.Random(seed), linked=True)
    tables, _ = world.built()
    rows = {}
    for name in world.tables:
        for cell, number in zip(tables.names(name).rows(), tables.cells[name]["set"], strict=True):
            assert rows.setdefault(number, world.cells(name)[cell]) == world.cells(name)[cell]
    assert len(set(rows.values())) == len(rows) == len(tables.sets)
    assert tables.cells[""]["set"][0] == tables.cells["zones"]["set"][0]  # the grand totals


def test_the_order_of_rows_decides_nothing() -> None:
    world = random_world(random.Random(7), linked=True, n=40)
    expected, _ = world.built()
    shuffled = World([*world.rows], world.parents, world.tables)
    random.Random(1).shuffle(shuffled.rows)
    found, _ = shuffled.built()
    assert found.atoms.equals(expected.atoms)
    assert found.sets.members.tolist() == expected.sets.members.tolist()
    assert all(found.cells[name].equals(expected.cells[name]) for name in world.tables)


def test_codes_come_in_the_order_of_their_tree() -> None:
    world = random_world(random.Random(3), n=40)
    tables, _ = world.built()
    regions = tables.names("")["region"].unique(maintain_order=True).to_list()
    assert regions == ["Total", "N", "N1", "N2", "S", "S1"]


def test_a_table_too_large_for_the_memory_is_refused_before_it_is_built() -> None:
    world = random_world(random.Random(3), n=40)
    pairs = sum(len(cell) for cell in world.cells("").values())
    with pytest.raises(Refused, match="too_large") as refused:
        build(world.microdata().rows, world.hierarchies(), most_pairs=len(world.atoms()))
    assert "--max-memory" in str(refused.value)
    build(world.microdata().rows, world.hierarchies(), most_pairs=pairs)


# --- hierarchies -----------------------------------------------------------------------------------------


def tree(*rows: tuple[str, str]) -> Hierarchy:
    return Hierarchy.from_rows(pl.DataFrame(rows, schema=["child", "parent"], orient="row"), "h.csv")


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([("a", "Total"), ("b", "c"), ("c", "b")], ["`b`", "cycle", "`c`"]),
        ([("a", "a")], ["`a`", "cycle"]),
        ([("a", "Total"), ("b", "x")], ["`x`", "add a row x,Total"]),
        ([("a", "Total"), ("b", "Total"), ("c", "a"), ("c", "b")], ["`c`", "two parents", "`a`", "`b`"]),
        ([("a", "Total"), ("b", "")], ["`b`"]),
        ([("", "Total")], ["`Total`"]),
        ([("a", "Total"), ("Total", "a")], ["`Total` has a parent"]),
        ([], ["no code at all"]),
        ([("Total", "")], ["no code at all"]),
    ],
)
def test_a_hierarchy_that_is_no_tree_is_refused_and_the_offender_named(
    rows: list[tuple[str, str]], named: list[str]
) -> None:
    with pytest.raises(InputError, match="bad_hierarchy") as refused:
        tree(*rows) if rows else tree()
    assert all(each in str(refused.value) for each in ["h.csv", *named])


def test_a_row_of_the_root_and_a_row_twice_are_harmless() -> None:
    assert tree(("Total", ""), ("b", "Total"), ("a", "Total"), ("b", "Total")).codes == ("Total", "a", "b")

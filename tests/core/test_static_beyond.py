"""No set that published figures could isolate is forgotten: parts, intersections and differences of linked cells."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
import static_attackers
from hypothesis import given, settings
from hypothesis import strategies as st
from static_world import Row, World, random_world, recount
from test_static_judge import random_rules

from broker.core.errors import Refused
from broker.core.static.beyond import beyond_cells, remainders
from broker.core.static.judge import judge, profile
from broker.core.static.screen import Screen
from broker.core.static.spec import Rules

MOST = 10**7


def brute_force(world: World, rules: Rules) -> set[frozenset[int]]:
    """The rows of every unsafe atom, intersection and difference that is no cell."""
    cells = {name: set(world.cells(name).values()) for name in world.tables}
    candidates = set(world.atoms().values())
    for one, other in product(world.tables, repeat=2):
        if one != other:
            for left, right in product(cells[one], cells[other]):
                if left & right:
                    candidates |= {left & right, left - right}
    candidates -= {frozenset(), *(cell for each in cells.values() for cell in each)}
    return {rows for rows in candidates if recount([world.rows[i] for i in rows], rules)[0]}


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32), net=st.booleans())
def test_every_unsafe_part_intersection_and_difference_is_found(seed: int, net: bool) -> None:
    rng = random.Random(seed)
    world, rules = random_world(rng, linked=True, net=net), random_rules(rng)
    if rng.random() < 0.3:
        world.tables["kinds"] = {"sector": "kind"}
    tables, contributions = world.built()
    found = beyond_cells(tables, contributions, rules, most_pairs=MOST)
    rows = [world.rows_of(tables, each.members) for each in found]
    assert len(set(rows)) == len(rows)
    assert set(rows) == brute_force(world, rules)
    for each, mine in zip(found, rows, strict=True):
        names, level = recount([world.rows[i] for i in mine], rules)
        assert ({reason.split(":")[0] for reason in each.verdict.reasons}, each.verdict.level) == (
            names,
            level,
        )


def test_in_one_table_only_rows_above_the_finest_codes_are_parts_beside_its_cells() -> None:
    """Rows at S itself, beside those at S1, are in no cell of their own."""
    rows = [Row({"region": code}, i, i, 5) for i, code in enumerate(["S1", "S1", "S1", "S"])]
    world = World(rows, {"region": {"S": "Total", "S1": "S"}}, {"": {"region": "region"}})
    tables, contributions = world.built()
    (part,) = beyond_cells(tables, contributions, Rules(min_contributors=2), most_pairs=MOST)
    assert (part.kind, dict(part.of), world.rows_of(tables, part.members)) == ("part", {"region": "S"}, {3})


def test_a_sliver_says_of_which_cells_it_is() -> None:
    rows = [Row({"region": "N", "zone": "u"}, i, i, 5) for i in range(4)]
    rows += [Row({"region": "N", "zone": "v"}, 9, 9, 5)]
    rows += [Row({"region": "S", "zone": "v"}, i, i, 5) for i in range(10, 14)]
    flat = {"region": {"N": "Total", "S": "Total"}, "zone": {"u": "Total", "v": "Total"}}
    world = World(rows, flat, {"": {"region": "region"}, "zones": {"zone": "zone"}})
    tables, contributions = world.built()
    (sliver,) = beyond_cells(tables, contributions, Rules(min_contributors=3), most_pairs=MOST)
    assert world.rows_of(tables, sliver.members) == {4}
    assert (sliver.kind, dict(sliver.of), dict(sliver.without)) == ("part", {"region": "N", "zone": "v"}, {})


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_the_screen_leaves_out_no_unsafe_difference_and_does_leave_out_safe_ones(seed: int) -> None:
    rng = random.Random(seed)
    world, rules = random_world(rng, linked=True, n=40), random_rules(rng)
    tables, contributions = world.built()
    screen = Screen.of(profile(tables.sets, contributions, rules), tables.incidence, contributions, rules)
    left, right = (np.unique(tables.cells[name]["set"].to_numpy()) for name in ("", "zones"))
    looked_at = {tuple(pair) for pairs in screen.doubtful(left, right) for pair in pairs.tolist()}
    rows = [world.rows_of(tables, each) for each in np.split(tables.sets.members, tables.sets.starts[1:-1])]
    for s, t in product(left.tolist(), right.tolist()):
        rest = rows[s] - rows[t]
        if rows[s] & rows[t] and rest and recount([world.rows[i] for i in rest], rules)[0]:
            assert (s, t) in looked_at


def test_the_screen_spares_almost_all_of_a_table_of_large_cells() -> None:
    rng = random.Random(1)
    world = random_world(rng, linked=True, n=0)
    world.rows += [
        Row(
            {"region": rng.choice(["N1", "N2", "S1"]), "sector": "a", "zone": rng.choice("u"), "kind": "a"},
            i,
            i,
            5,
        )
        for i in range(300)
    ]
    world.rows.append(Row({"region": "N1", "sector": "a", "zone": "v1", "kind": "a"}, 999, 999, 5))
    rules = Rules(min_contributors=3, p_percent="10")
    tables, contributions = world.built()
    screen = Screen.of(profile(tables.sets, contributions, rules), tables.incidence, contributions, rules)
    left, right = (np.unique(tables.cells[name]["set"].to_numpy()) for name in ("", "zones"))
    looked_at = [tuple(pair) for pairs in screen.doubtful(left, right) for pair in pairs.tolist()]
    assert 0 < len(looked_at) < len(left) * len(right) / 3
    assert len(judge(tables.sets, contributions, rules).verdicts) == 1


def test_intersections_too_many_for_the_memory_are_refused() -> None:
    world = random_world(random.Random(5), linked=True, n=40)
    tables, contributions = world.built()
    with pytest.raises(Refused, match="too_large"):
        beyond_cells(tables, contributions, Rules(min_contributors=3), most_pairs=100)


# --- remainders ------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_every_unsafe_remainder_of_a_line_is_found(seed: int) -> None:
    rng = random.Random(seed)
    world, rules = random_world(rng, linked=rng.random() < 0.5), random_rules(rng)
    tables, contributions = world.built()
    published = np.array([rng.random() < 0.5 for _ in range(len(tables.sets))])
    out = {
        world.rows_of(tables, each)
        for each, shown in zip(
            np.split(tables.sets.members, tables.sets.starts[1:-1]), published, strict=True
        )
        if shown
    }
    cells = {rows for name in world.tables for rows in world.cells(name).values()}
    left = set(static_attackers.remainders(world, out)) - cells - {frozenset()}
    expected = {rows for rows in left if recount([world.rows[i] for i in rows], rules)[0]}
    found = remainders(tables, published, contributions, rules)
    assert {world.rows_of(tables, each.members) for each in found} == expected
    assert len(found) == len(expected)
    assert all(each.kind == "remainder" and each.without for each in found)

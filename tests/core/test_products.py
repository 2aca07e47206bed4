"""What a product's premises promise, against loops over dicts."""

from __future__ import annotations

import random
from collections import defaultdict
from fractions import Fraction
from typing import Any

from fold_worlds import AREAS, DAY, SEGMENTS, Row, domain, rollup, rollups
from hypothesis import example, given, settings
from hypothesis import strategies as st
from product_worlds import ALL, DAYS, H1, H2, WINDOW, energy, of, product, water, waters, where

from broker.core.calendar import HOUR, Calendar, Window
from broker.core.plan import Product
from broker.core.policy import Count, Sum
from broker.core.products import Units, units
from broker.core.rollups import Rollups

# -- the definition, by loops ---------------------------------------------------------------------------


def expected(rows: list[Row], what: Product) -> dict[str, Any]:
    policy = what.policy
    taken, complete, seen = {}, {}, {}
    for key, spec in policy.inputs.items():
        mine = [
            r
            for r in rows
            if r["mask"] >> what.bit & 1
            and (r["measure"], r["kind"]) == (spec.measure, spec.kind)
            and r["partner"] in spec.partners
            and WINDOW.start <= r["window"] < WINDOW.end
        ]
        dates = None if spec.days is None else what.references[spec.days]
        days = [d for d in ALL if dates is None or f"1970-01-{d + 1:02d}" in dates]
        counted = [r for r in mine if r["window"] // DAY in days]
        taken[key], seen[key] = mine, {r["premises"] for r in mine}
        complete[key] = {
            home: found
            for home in seen[key]
            if (
                found := _expected_home(
                    [r for r in counted if r["premises"] == home], len(days), policy.coverage
                )
            )
        }
    together = {r["premises"] for mine in taken.values() for r in mine}
    everywhere = set.intersection(*(set(homes) for homes in complete.values()))
    result: dict[str, Any] = {"frames": {}}
    contested = 0
    for key in policy.inputs:
        alone = policy.join == "none"
        context = taken[key] if alone else [r for mine in taken.values() for r in mine]
        homes = set(complete[key]) if alone else everywhere
        placed = {home: place for home in homes if (place := _place(context, home))}
        contested += len(homes) - len(placed)
        result["frames"][key] = {
            (home, *part): (*placed[home], value, total, peak, n)
            for home in placed
            for parts, total, peak, n in (complete[key][home],)
            for part, value in parts.items()
        }
    if policy.join == "none":
        result["incomplete"] = sum(len(seen[key] - set(complete[key])) for key in policy.inputs)
        result["contested"] = contested
    else:
        result["incomplete"] = len(together - everywhere)
        result["contested"] = contested // len(policy.inputs)
    return result


def _expected_home(
    rows: list[Row], days: int, coverage: Fraction
) -> tuple[dict[Any, int], int, int, int] | None:
    lines, parts, bases = defaultdict(lambda: defaultdict(int)), defaultdict(int), defaultdict(int)
    for r in rows:
        lines[r["partner"]][r["point"], r["net"]] += r["covered"]
        parts[r["holding"], r["partner"]] += r["value"]
        bases[r["window"]] += r["value"]
    covered = min(days * DAY, sum(min(each.values()) for each in lines.values()))
    if not rows or not days or covered < coverage * days * DAY:
        return None
    return parts, sum(bases.values()), max(bases.values()), len(bases)


def _place(rows: list[Row], home: bytes) -> tuple[str, str] | None:
    mine = [r for r in rows if r["premises"] == home]
    began: dict[tuple[Any, ...], Row] = {}
    for r in sorted(mine, key=lambda r: int(r["window"])):
        began.setdefault((r["measure"], r["kind"], r["partner"], r["point"], r["net"]), r)
    areas = {r["area"] for r in _earliest([*began.values()])}
    segments = {r["segment"] for r in _earliest([r for r in began.values() if r["segment"]])} or {""}
    return (areas.pop(), segments.pop()) if len(areas) == len(segments) == 1 else None


def _earliest(rows: list[Row]) -> list[Row]:
    first = min((r["window"] for r in rows), default=0)
    return [r for r in rows if r["window"] == first]


def found(result: Units) -> dict[str, Any]:
    frames = {
        key: {
            (r["premises"], r["holding"], r["partner"]): tuple(
                r[c] for c in ("area", "segment", "value", "total", "peak", "n")
            )
            for r in part.iter_rows(named=True)
        }
        for key, part in result.frames.items()
    }
    return {"frames": frames, "incomplete": result.incomplete, "contested": result.contested}


@st.composite
def homes(draw: st.DrawFn) -> list[Row]:
    """Roll-ups of a few lines at two premises, mostly whole days, with gaps, switches and slips of place."""
    rows = []
    for i in range(draw(st.integers(1, 6))):
        make, partner = draw(st.sampled_from([(rollup, "a"), (rollup, "b"), (water, "w"), (water, "x")]))
        home, first, last = (
            draw(st.sampled_from(["h1", "h2"])),
            draw(st.integers(0, 2)),
            draw(st.integers(2, DAYS)),
        )
        slips, net = draw(st.integers(0, 3)) == 0, draw(st.integers(0, 5)) == 0
        for day in range(first, last + 1):
            if draw(st.integers(0, 7)) == 0:
                continue
            rows.append(
                make(
                    day,
                    f"p{i}",
                    draw(st.integers(-50, 200)),
                    partner=partner,
                    premises=home,
                    net=net,
                    covered=draw(st.sampled_from([DAY, DAY, DAY, DAY // 2])),
                    mask=draw(st.sampled_from([1, 3, 3, 2])),
                    area=draw(st.sampled_from(AREAS)) if slips else AREAS[0],
                    segment=draw(st.sampled_from([*SEGMENTS, ""])) if slips else SEGMENTS[0],
                )
            )
    return rows


COLD = frozenset({"1970-01-02", "1970-01-03", "1970-01-05", "1971-01-01"})


@settings(max_examples=150, deadline=None)
@given(
    homes(),
    st.sampled_from(["premises", "none"]),
    st.sampled_from(["0.3", "0.5", "0.8", "1"]),
    st.sampled_from([None, COLD, frozenset()]),
    st.integers(0, 1),
)
@example(rows=energy(ALL) + waters(ALL), join="premises", coverage="1", days=None, bit=0)
def test_units_are_as_defined(
    rows: list[Row], join: str, coverage: str, days: frozenset[str] | None, bit: int
) -> None:
    what = product(join=join, coverage=coverage, days=days, bit=bit)
    assert found(of(rows, what)) == expected(rows, what)


@settings(max_examples=40, deadline=None)
@given(homes(), st.randoms(use_true_random=False))
def test_neither_order_nor_other_products_bits_change_a_byte(rows: list[Row], rng: random.Random) -> None:
    what = product(
        coverage="0.5", some=Count(kind="count", where=where(energy="sum < 500", water="max < 150"))
    )
    straight = of(rows, what)
    rng.shuffle(rows)
    other = of([{**r, "mask": r["mask"] & 1} for r in rows], what)
    assert all(other.frames[key].equals(part) for key, part in straight.frames.items())
    assert other.eligible.equals(straight.eligible)
    assert other.contributions_of("some").equals(straight.contributions_of("some"))
    assert other.candidates("some").equals(straight.candidates("some"))


# -- by name --------------------------------------------------------------------------------------------


def test_coverage_is_exact_at_its_threshold() -> None:
    month = Window(0, 30 * DAY)
    what = product(inputs=("energy",), coverage="0.9")
    assert of(energy(range(27)), what, month).eligible.height == 1
    almost = energy(range(26)) + energy(range(26, 27), covered=DAY - 1)
    assert of(almost, what, month).eligible.height == 0
    assert of(almost, what, month).incomplete == 1


def test_coverage_is_never_rounded_in_favour_of_a_home() -> None:
    almost = energy(range(4)) + energy(range(4, 5), covered=DAY - 1)
    assert of(almost, product(inputs=("energy",), coverage="0.999999999999")).incomplete == 1
    assert of(almost, product(inputs=("energy",), coverage="0.99")).incomplete == 0


def test_a_supplier_switch_is_one_premises_with_two_parts() -> None:
    rows = energy(range(2), "e1", 10) + energy(range(2, 5), "e2", 20, partner="b")
    parts = of(rows).frames["energy"]
    assert parts.select("premises", "partner", "value", "total", "peak", "n").rows() == [
        (H1, "a", 20, 80, 20, 5),
        (H1, "b", 60, 80, 20, 5),
    ]


def test_the_day_of_a_switch_counts_with_both_parts() -> None:
    half = DAY // 2
    rows = (
        energy(range(2))
        + energy(range(2, 3), covered=half)
        + energy(range(2, 3), "e2", 5, partner="b", covered=half)
    )
    result = of(rows + energy(range(3, 5), "e2", 9, partner="b"), product(inputs=("energy",), coverage="1"))
    assert result.frames["energy"]["peak"].to_list() == [15, 15]
    assert result.frames["energy"]["n"].to_list() == [5, 5]


def test_a_second_meter_that_died_makes_a_home_incomplete_not_frugal() -> None:
    rows = energy(ALL, "e1") + energy(range(2), "e2")
    assert of(rows).incomplete == 1
    assert of(energy(ALL, "e1") + energy(ALL, "e2")).frames["energy"]["value"].to_list() == [100]


def test_area_and_segment_are_those_of_the_windows_beginning() -> None:
    rows = energy(range(2), area=AREAS[1], segment="shop") + energy(range(2, 5))
    assert of(rows).eligible.rows() == [(H1, AREAS[1], "shop")]
    late = energy(range(1, 3), area=AREAS[1]) + energy(range(3, 5))
    assert of(late).eligible.rows() == [(H1, AREAS[1], "home")]


def test_a_premises_in_two_areas_at_once_counts_for_nothing() -> None:
    rows = (
        energy(ALL)
        + waters(ALL, area=AREAS[1])
        + energy(ALL, premises="h2")
        + waters(ALL, "w2", premises="h2")
    )
    joined = of(rows, product())
    assert joined.eligible["premises"].to_list() == [H2]
    assert (joined.contested, joined.incomplete) == (1, 0)


def test_an_empty_segment_contradicts_none() -> None:
    rows = energy(ALL, segment="") + waters(ALL, segment="shop")
    for joined in (of(rows, product()), of([*reversed(rows)], product())):
        assert (joined.eligible.rows(), joined.contested) == ([(H1, AREAS[0], "shop")], 0)
        assert {frame["segment"][0] for frame in joined.frames.values()} == {"shop"}
    later = energy(ALL, segment="") + waters(range(1, DAYS), segment="shop")
    assert of(later, product(coverage=Fraction(1, 2))).eligible["segment"].to_list() == ["shop"]
    two = energy(ALL, segment="home") + waters(ALL, segment="shop") + waters(ALL, "w2", segment="")
    assert of(two, product()).contested == 1


def test_without_a_join_an_empty_segment_of_one_input_takes_the_others_in_counts_over_all() -> None:
    rows = energy(ALL, segment="") + waters(ALL, segment="shop")
    result = of(rows, product(join="none", homes=Count(kind="count")))
    assert result.eligible.rows() == [(H1, AREAS[0], "shop")]
    assert result.frames["energy"]["segment"].to_list() == [""]
    counted = result.contributions_of("homes")
    assert counted.select("segment", "value").rows() == [("shop", 1)] * 2
    elsewhere = energy(ALL, segment="") + waters(ALL, segment="shop", area=AREAS[1])
    assert of(elsewhere, product(join="none", homes=Count(kind="count"))).eligible.height == 0


def test_partners_that_disagree_about_a_premises_are_named() -> None:
    rows = energy(ALL) + waters(ALL, area=AREAS[1])
    others = energy(ALL, "q", premises="h2", partner="b") + waters(ALL, "w2", premises="h2", partner="x")
    for join in ("premises", "none"):
        result = of(rows + others, product(join=join))
        assert result.disagreeing == (("a", "w") if join == "premises" else ())
    split = energy(ALL) + energy(ALL, "q", area=AREAS[1], partner="b")
    assert of(split, product(join="none")).disagreeing == ("a", "b")


def test_without_a_join_one_inputs_place_does_not_disturb_the_other() -> None:
    rows = energy(ALL) + waters(ALL, area=AREAS[1])
    result = of(
        rows, product(join="none", homes=Count(kind="count"), kwh=Sum(kind="sum", input="energy", unit="kWh"))
    )
    assert [part["area"].to_list() for part in result.frames.values()] == [[AREAS[0]], [AREAS[1]]]
    assert result.contributions_of("kwh")["value"].to_list() == [50]
    assert result.eligible.is_empty()
    assert result.contributions_of("homes").is_empty()


def test_a_join_takes_only_premises_complete_in_every_input() -> None:
    rows = (
        energy(ALL) + waters(range(2)) + energy(ALL, "e2", premises="h2") + waters(ALL, "w2", premises="h2")
    )
    result = of(rows, product())
    assert result.eligible["premises"].to_list() == [H2]
    assert result.frames["energy"]["premises"].to_list() == [H2]
    assert result.incomplete == 1


def test_only_cold_days_count_and_without_any_nobody_does() -> None:
    what = product(inputs=("energy",), coverage="1", days=frozenset({"1970-01-02", "1970-01-04"}))
    rows = [rollup(day, "e1", 10**day) for day in (1, 3, 4)]
    assert of(rows, what).frames["energy"].select("value", "n").rows() == [(1010, 2)]
    never = product(inputs=("energy",), coverage="1", days=frozenset())
    assert of(rows, never).eligible.is_empty()
    assert of(rows, never).incomplete == 1


def test_days_are_those_of_the_local_calendar() -> None:
    calendar = Calendar("Europe/Paris")
    day = calendar.window("P1D", 40 * DAY)
    what = product(inputs=("energy",), coverage="1", days=frozenset({calendar.date(day.start)}))
    rows = [rollup(0, "e1", 5, window=day.start, end=day.end)]
    month = calendar.window("P1M", day.start)
    assert units(Rollups.of(rollups(rows)), what, domain(timezone="Europe/Paris"), month).eligible.height == 1


def test_feed_in_counts_with_its_sign() -> None:
    rows = energy(ALL, value=10) + energy(ALL, value=-30, net=True)
    assert of(rows).frames["energy"].select("value", "peak", "n").rows() == [(-100, -20, 5)]


def test_hours_fold_and_join_to_a_day_of_23_hours() -> None:
    calendar = Calendar("Europe/Paris")
    day = calendar.window("P1D", 1_774_780_000_000)
    assert day.end - day.start == 23 * HOUR
    rows = [
        rollup(0, "e1", 1, window=base.start, end=base.end, covered=HOUR)
        for base in calendar.bases(day, "PT1H")
    ]
    hourly = domain(base="PT1H", timezone="Europe/Paris")
    whole = product(inputs=("energy",), coverage="1")
    assert units(Rollups.of(rollups(rows)), whole, hourly, day).frames["energy"]["value"].to_list() == [23]
    assert units(Rollups.of(rollups(rows[1:])), whole, hourly, day).eligible.is_empty()


def test_nothing_gives_nothing_that_still_has_its_columns() -> None:
    what = product(
        n=Count(kind="count"), j=Count(kind="count", where=where(energy="sum < 5", water="sum < 5"))
    )
    result = of([], what)
    assert result.eligible.columns == ["premises", "area", "segment"]
    assert result.contributions_of("n").is_empty()
    assert result.candidates("j").is_empty()

"""Small worlds for the tests of fold, registers and products, and what must come out, by loops over dicts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import polars as pl
from hypothesis import strategies as st

from broker.core.calendar import HOUR, Calendar, Window
from broker.core.fold_frames import LOST, ROLLUP, ROWS
from broker.core.plan import Domain

DAY = 24 * HOUR
WINDOW = Window(10 * DAY, 11 * DAY)
AREAS = ["iris-1", "iris-2"]
SEGMENTS = ["home", "shop"]
Row = dict[str, Any]
Line = tuple[bytes, str, str, bool]
Total = tuple[str, str, int | None, int]  # area, segment, value, covered


def name(text: str) -> bytes:
    """A pseudonym of 16 bytes that a failing test shows readably."""
    return text.encode().ljust(16, b".")


def domain(
    *, base: str = "P1D", timezone: str = "UTC", max_gap: int = 2 * DAY, assign_start: Iterable[str] = ()
) -> Domain:
    return Domain(
        name="housing",
        base=base,
        lateness=0,
        calendar=Calendar(timezone),
        assign_start=frozenset(assign_start),
        max_gap={"water": max_gap, "electricity": max_gap},
        products=(),
        streams=(),
    )


def row(start: int, end: int | None = None, value: int = 1, **fields: Any) -> Row:
    """A row of point p1 of partner a at premises h1 with mask 1; an interval where `end` is given. Hours."""
    kind = "register" if end is None else "interval"
    moment = WINDOW.start + start * HOUR
    partner = fields.get("partner", "a")
    return {
        "window": WINDOW.start,
        "group": 0,
        "point": name("p1"),
        "premises": name("h1"),
        "area": AREAS[0],
        "segment": SEGMENTS[0],
        "start": moment,
        "end": moment if end is None else WINDOW.start + end * HOUR,
        "value": value,
        "order": fields.get("order", 100 + start),
        "mask": 1,
        "role": 0 if kind == "interval" else 1 if moment > WINDOW.start else 2,
        "register_size": None,
        "partner": partner,
        "holding": f"group of {partner}",
        "measure": "electricity" if kind == "interval" else "water",
        "kind": kind,
        "net": False,
        "seq": 0,
        **fields,
    }


def frame(rows: Iterable[Row]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=ROWS, orient="row")


def rollup(day: int, point: str, value: int, **fields: Any) -> Row:
    """A roll-up row of a whole day (number in January 1970) of partner a at premises h1, mask 1."""
    partner = fields.get("partner", "a")
    found = {
        "window": day * DAY,
        "end": (day + 1) * DAY,
        "point": name(point),
        "premises": name("h1"),
        "partner": partner,
        "holding": f"group of {partner}",
        "measure": "electricity",
        "kind": "interval",
        "net": False,
        "area": AREAS[0],
        "segment": SEGMENTS[0],
        "mask": 1,
        "value": value,
        "covered": DAY,
        "seq": 0,
        **fields,
    }
    for key in ("premises", "point"):
        found[key] = name(found[key]) if isinstance(found[key], str) else found[key]
    return found


def rollups(rows: Iterable[Row]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=ROLLUP, orient="row")


def line_of(each: Row) -> Line:
    return each["point"], each["measure"], each["kind"], each["net"]


def claim_of(each: Row) -> tuple[bytes, str, str]:
    return each["premises"], each["measure"], each["kind"]


def totals_of(rolled: pl.DataFrame, bit: int) -> dict[tuple[Line, bytes], Total]:
    """What a roll-up says for one product; fails where a line and premises has two rows of the bit."""
    found: dict[tuple[Line, bytes], Total] = {}
    for each in rolled.iter_rows(named=True):
        if each["mask"] >> bit & 1:
            key = line_of(each), each["premises"]
            assert key not in found, "two rows of one bit for one line and premises"
            found[key] = each["area"], each["segment"], each["value"], each["covered"]
    return found


def expected_intervals(rows: Iterable[Row], bit: int) -> dict[tuple[Line, bytes], Total]:
    """The fold of intervals for one product, by its definition; no `assign: start`."""
    last: dict[tuple[Line, int, int], Row] = {}
    for each in rows:
        if not each["mask"] >> bit & 1 or each["kind"] != "interval":
            continue
        key = line_of(each), each["start"], each["end"]
        if key not in last or last[key]["order"] < each["order"]:
            last[key] = each
    live = list(last.values())

    def clash(one: Row, other: Row) -> bool:
        if one is other or not (one["start"] < other["end"] and other["start"] < one["end"]):
            return False
        rivals = claim_of(one) == claim_of(other) and one["partner"] != other["partner"]
        return line_of(one) == line_of(other) or rivals

    groups = defaultdict(list)
    for each in live:
        if not any(clash(each, other) for other in live):
            groups[line_of(each), each["premises"]].append(each)
    found = {}
    for key, members in groups.items():
        first = min(members, key=lambda each: each["start"])
        value = sum(each["value"] for each in members)
        covered = sum(min(each["end"], WINDOW.end) - each["start"] for each in members)
        found[key] = first["area"], first["segment"], value, covered
    return found


def expected_registers(rows: Iterable[Row], bit: int, max_gap: int) -> dict[tuple[Line, bytes], Total]:
    """The same for registers."""
    lines = defaultdict(list)
    for each in rows:
        if each["mask"] >> bit & 1 and each["kind"] == "register":
            lines[line_of(each)].append(each)
    claims = defaultdict(list)
    for line, members in lines.items():
        step = _step(members, max_gap)
        if step is not None:
            claims[claim_of(step[1])].append((line, *step))
    found = {}
    for steps in claims.values():
        best = max(standing for _, standing, *_ in steps)
        claiming = {look["partner"] for _, standing, look, *_ in steps if standing == best}
        for line, _, look, value, covered in steps:
            if look["partner"] in claiming and not (best == 2 and len(claiming) > 1):
                found[line, look["premises"]] = look["area"], look["segment"], value, covered
    return found


def _step(members: list[Row], max_gap: int) -> tuple[int, Row, int | None, int] | None:
    """How well a line is known (2: taken, 1: lost, 0: silent), the reading that places it, value, covered."""

    def last(until: int) -> Row | None:
        before = [each for each in members if each["start"] <= until]
        return max(before, key=lambda each: (each["start"], each["order"]), default=None)

    opening, closing = last(WINDOW.start), last(WINDOW.end)
    if opening is not None and WINDOW.start - opening["start"] > max_gap:
        opening = None
    if closing is None or closing["start"] <= WINDOW.start:
        return None if opening is None else (0, opening, None, 0)
    value = None if opening is None else _difference(opening, closing)
    if opening is None or value is None or WINDOW.end - closing["start"] > max_gap:
        return 1, closing, None, LOST
    boundary = WINDOW.start
    while boundary - DAY >= opening["start"]:
        boundary -= DAY
    return 2, opening, value, WINDOW.end - boundary


def _difference(opening: Row, closing: Row) -> int | None:
    if opening["premises"] != closing["premises"]:
        return None
    value: int = closing["value"] - opening["value"]
    if value >= 0 or opening["net"]:
        return value
    size = opening["register_size"]
    if size is None or size != closing["register_size"]:
        return None
    value += size
    return value if 0 <= value < size / 2 else None


@st.composite
def worlds(draw: st.DrawFn, kind: str) -> list[Row]:
    """Rows of one base window: up to five points of three partners at two premises, three products."""
    owners = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=5))
    usual = draw(st.sampled_from([1, 7]))
    settled = [draw(st.sampled_from(["h1", "h2"])) for _ in owners]
    found = []
    for order in draw(st.permutations(range(draw(st.integers(0, 14))))):
        which = draw(st.integers(0, len(owners) - 1))
        start = draw(st.integers(0, 5) if kind == "interval" else st.integers(-5, 4)) * 6
        usually = draw(st.integers(0, 4)) > 0
        found.append(
            row(
                min(start, 18) if kind == "interval" else start,
                (min(start, 18) + 6 * draw(st.integers(1, 2))) if kind == "interval" else None,
                draw(st.integers(-5, 1000)),
                order=order,
                seq=order // 3,
                point=name(f"p{which}"),
                partner=owners[which],
                premises=name(settled[which] if usually else draw(st.sampled_from(["h1", "h2"]))),
                area=AREAS[0] if usually else draw(st.sampled_from(AREAS)),
                segment=SEGMENTS[0] if usually else draw(st.sampled_from(SEGMENTS)),
                mask=usual if usually else draw(st.integers(0, 7)),
                net=draw(st.integers(0, 9)) == 0,
                register_size=draw(st.sampled_from([None, 1000, 1000, 1200])),
            )
        )
    return found

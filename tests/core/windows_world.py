"""A few homes, two suppliers, two input partitions: records for the tests of open windows, and what came of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import polars as pl
from admission_world import AREAS, BY_HOUR, ELECTRICITY, HOUR, OTHER, ms, product

from broker.core.fold_frames import ROWS
from broker.core.open_windows import Closed, OpenWindows
from broker.core.plan import Activation, Plan, build_plan
from broker.core.policy import load

START = ms("2026-03-10")
LANES = 2
STREAMS = {"a": ELECTRICITY, "b": OTHER}
BY_DAY = {"length": "P1D", "base": "PT1H", "timezone": "Europe/Paris"}
HOURLY = BY_HOUR
Record = tuple[str, Any]
"""mark (topic, lane, until) · stalled (the same) · chunk (window, rows) · retract rows · plan."""


def plan_of(active_from: int = START, **windows: dict[str, Any]) -> Plan:
    """Products by name with their `window` field; both suppliers in each."""
    policies = [load(product(name, window=window), name) for name, window in windows.items()]
    return build_plan(
        [Activation(policy, active_from) for policy in policies], STREAMS.values(), AREAS, "Europe/Paris"
    )


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()[:16]


def use(point: str, hour: int, value: int = 100, mask: int = 1, **fields: Any) -> dict[str, Any]:
    """One hour's reading of a point, whose first letter is its supplier's; each has a home of its own."""
    stream = STREAMS[point[0]]
    start = START + hour * HOUR
    return {
        "window": start,
        "group": 0,
        "point": digest(f"point {point}"),
        "premises": digest(f"home {point}"),
        "area": "C1",
        "segment": "home",
        "start": start,
        "end": start + HOUR,
        "value": value,
        "order": hour,
        "mask": mask,
        "role": 0,
        "register_size": None,
        "partner": stream.partner,
        "holding": stream.holding,
        "measure": stream.measure,
        "kind": stream.kind,
        "net": False,
        **fields,
    }


def rows(*uses: dict[str, Any]) -> pl.DataFrame:
    schema = pl.Schema({name: dtype for name, dtype in ROWS.items() if name != "seq"})
    return pl.DataFrame(list(uses), schema=schema, orient="row")


def chunk(*uses: dict[str, Any]) -> Record:
    return "chunk", (uses[0]["window"], rows(*uses))


def mark(supplier: str, lane: int, hour: float) -> Record:
    return "mark", (STREAMS[supplier].topic, lane, START + int(hour * HOUR))


def stalled(supplier: str, lane: int, hour: int) -> Record:
    return "stalled", (STREAMS[supplier].topic, lane, START + hour * HOUR)


def marks(hour: float) -> list[Record]:
    """Everything before START + hour has been read, everywhere."""
    return [mark(supplier, lane, hour) for supplier in STREAMS for lane in range(LANES)]


def given_up(hour: int) -> list[Record]:
    """Supplier a has sent everything, b nothing in lane 1; the wait for that is given up."""
    return [mark("a", 0, hour), mark("a", 1, hour), mark("b", 0, hour), stalled("b", 1, hour)]


def retraction(point: str, bits: int = 1, from_ms: int | None = None) -> Record:
    columns = {"point": [digest(f"point {point}")], "premises": [None], "bits": [bits], "from_ms": [from_ms]}
    schema = {"point": pl.Binary, "premises": pl.Binary, "bits": pl.UInt64, "from_ms": pl.Int64}
    return "retract", pl.DataFrame(columns, schema=schema)


def take(windows: OpenWindows, record: Record, seq: int) -> None:
    kind, body = record
    if kind == "mark":
        windows.mark(*body)
    elif kind == "stalled":
        windows.stalled(*body)
    elif kind == "chunk":
        windows.fold("housing", *body, seq)
    elif kind == "retract":
        windows.retract("housing", body.with_columns(pl.lit(seq, pl.Int64).alias("seq")))
    else:
        windows.set_plan(body, seq)


def play(windows: OpenWindows, log: Iterable[Record], first: int = 0) -> Iterator[Closed]:
    """Takes records and closes after each, as a lane does."""
    for seq, record in enumerate(log, first):
        take(windows, record, seq)
        yield from windows.close_next(seq)


def begun(plan: Plan) -> OpenWindows:
    windows = OpenWindows(LANES)
    windows.set_plan(plan)
    return windows


@dataclass(frozen=True)
class Outcome:
    """One closed base window without what tells its place in the log."""

    window: tuple[int, int]
    rollup: list[tuple[Any, ...]]
    due: list[tuple[Any, ...]]


def plain(rollup: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Rows that count, without `seq`."""
    return sorted(rollup.filter(pl.col("mask") != 0).drop("seq").rows())


def outcome(closed: Closed) -> Outcome:
    due = [
        (
            due.product.name,
            due.window,
            plain(due.rollups.frame()),
            tuple(stream.topic for stream in due.left_out),
            due.abandoned,
        )
        for due in closed.due
    ]
    return Outcome((closed.window.start, closed.window.end), plain(closed.rollup), due)


def totals(rollups: pl.DataFrame, bit: int = 0) -> dict[str, int]:
    """Sum by partner over the rows that have the bit."""
    mine = rollups.filter((pl.col("mask") & (1 << bit)) != 0)
    return dict(mine.group_by("partner").agg(pl.col("value").sum()).sort("partner").iter_rows())


def lanes_of(seed: int, hours: int = 24) -> list[list[Record]]:
    """What each input partition sends: readings of its own points, corrections, duplicates, marks; a withdrawal
    before the first mark. Marks of the two suppliers come at their own pace."""
    chance = random.Random(seed)
    found = []
    for lane in range(LANES):
        points = [f"{supplier}{lane}{home}" for supplier in "ab" for home in range(2)]
        per_stream: list[list[Record]] = []
        for supplier in "ab":
            sent: list[Record] = []
            own = [point for point in points if point[0] == supplier]
            order = 0
            for hour in range(hours):
                for point in own:
                    order += 1
                    ahead = min(hours - 1, hour + chance.randrange(3))
                    value = chance.randrange(1000)
                    sent.append(chunk(use(point, chance.choice([hour, ahead]), value, order=order)))
                if hour == 1 and chance.random() < 0.7:
                    sent.append(retraction(chance.choice(own)))
                if hour >= 2 and chance.random() < 0.5:
                    sent.append(mark(supplier, lane, hour + 1))
            sent.append(mark(supplier, lane, hours))
            per_stream.append(sent)
        found.append(interleaved(per_stream, chance))
    return found


def interleaved(sequences: list[list[Record]], chance: random.Random) -> list[Record]:
    """One sequence that keeps the order of each."""
    turns = [i for i, sequence in enumerate(sequences) for _ in sequence]
    chance.shuffle(turns)
    heads = [iter(sequence) for sequence in sequences]
    return [next(heads[turn]) for turn in turns]

"""Releases of a small territory as the release role writes them, with the cells that a test wants in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from broker.core.areas import AreaTree
from broker.core.open_windows import Due
from broker.core.plan import Activation, Plan, Stream, build_plan
from broker.core.policy import load
from broker.core.release import Decision, Summary
from broker.core.report import CELLS
from broker.core.sealing import Sealer
from broker.core.territory import Territory, make_territory
from broker.edge.data import data_folder
from broker.edge.kafka.lane_client import LaneWriter
from broker.edge.kafka.settings import KafkaSettings
from broker.edge.keys import LocalKeys
from broker.edge.schemas import SchemaFolder
from broker.stages.ports import Out
from broker.stages.publish import Publisher

PRODUCT = "energy-water-daily"
LANES = 2
FIRST = 1_767_222_000_000  # 2026-01-01 in Paris
CODEC = SchemaFolder.load(data_folder("schemas"))
KEYS = LocalKeys(bytes(range(32)))

_TREE = [
    *((f"E{e}", "", "epci") for e in range(3)),
    *((f"E{e}C{c}", f"E{e}", "commune") for e in range(3) for c in range(2)),
    *((f"E{e}C{c}I{i}", f"E{e}C{c}", "iris") for e in range(3) for c in range(2) for i in range(2)),
]
AREAS = AreaTree.from_rows("iris-2026", pl.DataFrame(_TREE, schema=["area", "parent", "level"], orient="row"))


def territory() -> Territory:
    """Two lanes; `ville` may read the daily product, `other` something else."""

    def partner(name: str, measure: str, kind: str, unit: str) -> dict[str, Any]:
        stream = {"name": measure, "measure": measure, "kind": kind, "unit": unit, "net": unit == "Wh"}
        key = f"{name}+00000000+AAAA"
        return {"name": name, "holding": name, "title": name, "streams": [stream], "agreement_key": key}

    partners = [
        *(partner(f"energy-{x}", "electricity", "interval", "Wh") for x in "abc"),
        *(partner(f"water-{x}", "water", "register", "mL") for x in "ns"),
    ]
    recipients = [("ville", [PRODUCT]), ("other", ["else"])]
    areas = {"hierarchy": "iris-2026", "file": "areas.csv"}
    return make_territory(
        {"name": "testville", "timezone": "Europe/Paris", "lanes": LANES, "areas": areas},
        {f"partners/{p['name']}.yaml": p for p in partners},
        {f"recipients/{n}.yaml": {"name": n, "title": n, "products": p} for n, p in recipients},
    )


def plan() -> Plan:
    text = (data_folder("policies") / f"{PRODUCT}.yaml").read_text(encoding="utf-8")
    streams: Iterable[Stream] = territory().streams
    return build_plan([Activation(load(text, PRODUCT), FIRST)], list(streams), AREAS, "Europe/Paris")


def decision(group: str, day: int, found: Plan) -> Decision:
    """Every area of the group and every measure: a figure, or none where the area's code ends in I1."""
    domain, product = found.products()[PRODUCT]
    window = domain.calendar.windows("P1D", FIRST, FIRST + 40 * 86_400_000)[day]
    rows = [
        {
            "area": area,
            "level": AREAS.level(area),
            "segment": segment,
            "measure": measure,
            "value": None if area.endswith("I1") else f"{10 * number + day}.5",
            "status": "suppressed" if area.endswith("I1") else "published",
            "true_value": str(number),
            "contributors": number,
            "holdings": 3,
            "reasons": "min_contributors" if area.endswith("I1") else "",
            "primary": area.endswith("I1"),
        }
        for area in sorted(
            AREAS.codes, key=lambda code: (("iris", "commune", "epci").index(AREAS.level(code)), code)
        )
        if area.startswith(group)
        for segment in ("*", 'flat, with a "quote"')
        for number, measure in enumerate(product.policy.measures)
    ]
    return Decision(
        product=PRODUCT,
        start=window.start,
        window_start=domain.calendar.iso(window.start),
        window_end=domain.calendar.iso(window.end),
        levels=product.policy.areas.levels,
        measures=tuple(product.policy.measures),
        cells=pl.DataFrame(rows, schema=CELLS),
        group=group,
        summary=Summary(0, 0, 0, {}),
    )


def records(decided: Decision, found: Plan) -> list[Out]:
    """What the release role writes for it, in the lane of its group."""
    domain, product = found.products()[PRODUCT]
    lane = AREAS.groups("epci").index(decided.group) % LANES
    window = domain.calendar.window("P1D", decided.start)
    due = Due(domain, product, window, pl.DataFrame(), (), False)
    publisher = Publisher(lane, LANES, AREAS, CODEC, KEYS, Sealer(decided.group.encode().ljust(32, b"-")))
    return list(publisher._release(due, decided.group, decided))


async def write(settings: KafkaSettings, transactions: Iterable[list[Out]], lane: int = 0) -> None:
    """Each list in one transaction of a release lane."""
    writer = LaneWriter(settings, f"release.{lane}", "release.lanes")
    await writer.start()
    for out in transactions:
        await writer.commit(out, {})
    await writer.stop()

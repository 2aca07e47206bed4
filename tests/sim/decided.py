"""From a synthetic world to decided releases by the pure core alone: no Kafka, no files but the policies."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from broker.core.admission import NO_MARK, admit
from broker.core.areas import AreaTree
from broker.core.calendar import Window
from broker.core.consent import ConsentTable
from broker.core.fold import roll_up
from broker.core.plan import Activation, Domain, Plan, build_plan
from broker.core.policy import load
from broker.core.products import units
from broker.core.readings import check
from broker.core.references import read_references
from broker.core.release import Decision, decide
from broker.core.rollups import Rollups
from broker.core.sites import SiteTable
from broker.edge.data import data_folder
from broker.sim import World
from broker.sim.write import HIERARCHY

NOW = 1_798_761_600_000  # 2027-01-01: nothing of the world lies in the future


def key(domain: str, epoch: str) -> bytes:
    return f"{domain}/{epoch}".encode().ljust(32, b"\0")


@dataclass(frozen=True)
class Counts:
    read: int = 0
    admitted: int = 0
    late: int = 0
    quarantined: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Ingested:
    plan: Plan
    domain: Domain
    contributions: pl.DataFrame
    counts: dict[str, Counts]


def shipped_plan(world: World) -> Plan:
    folder = data_folder("policies")
    activations = []
    for path in sorted(folder.glob("*.yaml")):
        policy = load(path.read_text(encoding="utf-8"), path.name)
        files = {name: (folder / "references" / r.file).read_bytes() for name, r in policy.references.items()}
        activations.append(Activation(policy, int(world.edges[0]), read_references(policy, files)))
    areas = AreaTree.from_rows(HIERARCHY, world.areas)
    return build_plan(activations, world.streams, areas, world.spec.timezone)


def ingest(world: World) -> Ingested:
    """Everything that the partners send, step by step, with each step's mark after it."""
    plan = shipped_plan(world)
    (domain,) = plan.domains.values()
    frames, counts = [], {}
    for stream in world.streams:
        steps = world.readings[stream.partner][stream.name]
        sent = pl.concat([step.frame for step in steps]).drop("phase")
        ends = [0]
        for step in steps:
            ends.append(ends[-1] + len(step.frame))
        # A mark has the offset of the reading before it, and is in force for those after it.
        marks = [(end, step.until) for end, step in zip(ends[1:], steps, strict=True)]
        sent = sent.with_columns(offset=pl.int_range(len(sent), dtype=pl.Int64) + 1)
        good, bad = check(sent, stream, NOW)
        sites, problems = SiteTable.build(
            world.sites[stream.partner], stream.partner, plan.areas, domain.group_level
        )
        assert problems.is_empty()
        consent = ConsentTable.build(world.consent[stream.partner])
        done = admit(good, stream, domain, sites, consent, keys=key, mark=NO_MARK, marks=marks)
        frames.append(
            done.contributions.with_columns(
                partner=pl.lit(stream.partner),
                holding=pl.lit(stream.holding),
                measure=pl.lit(stream.measure),
                kind=pl.lit(stream.kind),
                net=pl.lit(stream.net),
            )
        )
        counts[stream.partner] = Counts(
            len(sent), done.admitted, int(done.late["count"].sum() or 0), len(bad), len(done.refused)
        )
    rows = pl.concat(frames).with_columns(seq=pl.int_range(pl.len(), dtype=pl.Int64))
    return Ingested(plan, domain, rows, counts)


def release(done: Ingested, product: str, window: Window) -> list[Decision]:
    """All groups of one product and window."""
    domain, found = done.plan.products()[product]
    bases = domain.calendar.bases(window, domain.base)
    groups = done.plan.areas.groups(domain.group_level)
    decisions = []
    for index, group in enumerate(groups):
        mine = done.contributions.filter(pl.col("group") == index)
        rolled = [roll_up(mine.filter(pl.col("window") == base.start), domain, base) for base in bases]
        found_units = units(Rollups.of(pl.concat(rolled)), found, domain, window)
        decisions.append(
            decide(found, domain, done.plan.areas, window, group, units=found_units, rounding_key=b"r" * 32)
        )
    return decisions


def cells(decisions: list[Decision]) -> pl.DataFrame:
    return pl.concat([d.cells for d in decisions])

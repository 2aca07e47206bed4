"""A policy tried out on recorded data: the same core as the stream, from frames instead of topics.

Invariants
- Every reading counts as sent before its partner's one mark, which is the end of its last good reading; lateness
  is 0. Windows are released where the marks of all contributing streams complete them; a window whose intervals
  reach over its end (`assign: start`) is complete then too, because nothing comes after the file.
- There is no append time. A reading lies in the future if it ends more than a day after `now`, which a caller that
  reads a clock raises to `usual_end`: recorded data that lie ahead of the clock as a whole are no forecast, and a
  few rows among them that lie far ahead of the others are.
- Nothing was released before the run, so a withdrawal known by the cut empties every window.
- Readings of a partner that the policy does not name in their input are refused (`no_product`), as on a stream that
  no product takes; the others go on.
- A waiver of a holding that has no site of a contributing partner is without effect, and is listed.
- A partner of the policy that sent nothing has no mark: every window waits for it (`on_stall: hold`), or does
  without it (`release_without`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import polars as pl

from broker.core.admission import NO_MARK, Admission, admit
from broker.core.areas import AreaTree
from broker.core.calendar import Window
from broker.core.consent import ConsentTable
from broker.core.fold import rivals
from broker.core.fold_frames import CLAIM
from broker.core.open_windows import OpenWindows
from broker.core.plan import Activation, Domain, Plan, Stream, build_plan
from broker.core.policy import Disclosure, Policy, Waiver
from broker.core.products import Units
from broker.core.readings import check
from broker.core.release import Decision
from broker.core.sites import SCHEMA as SITE_ROWS
from broker.core.sites import SiteTable
from broker.stages.ports import Keys
from broker.stages.publish import counted, decided

_CLAIMS = {"premises": pl.Binary, "measure": pl.String, "partner": pl.String, "window": pl.Int64}


@dataclass(frozen=True)
class Recorded:
    """Recorded data. readings: input → partner → readings frame; quarantined: counts by reason, of rows that were
    no readings; sites: partner → site rows; holdings: partner → holding; consent: consent rows of all partners."""

    readings: Mapping[str, Mapping[str, pl.DataFrame]]
    quarantined: Mapping[str, int]
    sites: Mapping[str, pl.DataFrame]
    holdings: Mapping[str, str]
    consent: pl.DataFrame


@dataclass(frozen=True)
class LeftOut:
    """Premises of one window (start in ms) that do not count: too few readings, or contested; disagreeing: the
    partners that serve the contested. claimed: premises of which readings do not count, because several partners
    (claiming) claim them for the same time."""

    window: int
    incomplete: int
    contested: int
    disagreeing: tuple[str, ...]
    claimed: int
    claiming: tuple[str, ...]


@dataclass(frozen=True)
class DryRun:
    """What the policy would have released. problems: (partner, delivery point, reason) of sites that cannot count;
    strangers: readings by (input, partner) that the policy does not name; waiting_for: streams that hold the first
    window that was not released (empty: none does)."""

    decisions: list[Decision]
    left_out: list[LeftOut]
    read: int
    admitted: int
    quarantined: dict[str, int]
    refused: dict[str, int]
    problems: list[tuple[str, str, str]]
    idle_waivers: list[Waiver]
    strangers: dict[tuple[str, str], int]
    waiting_for: list[str]
    marks: dict[str, int]


def dry_run(
    policy: Policy,
    references: Mapping[str, frozenset[str]],
    recorded: Recorded,
    areas: AreaTree,
    keys: Keys,
    *,
    now: int,
    cut: int | None = None,
) -> DryRun:
    """Decides every window that the data complete. now: ms, against readings from the future; cut: ms.

    Raises InputError or Refused where policy and files do not fit each other.
    """
    rules, idle_waivers = _rules(policy, recorded.holdings)
    plan = _plan(policy.model_copy(update={"disclosure": rules}), references, recorded, areas)
    domain = plan.domains[policy.domain]
    tables, problems = _site_tables(recorded, domain, areas)
    consent = ConsentTable.build(recorded.consent, cut)
    strangers = _strangers(recorded, domain)
    quarantined, refused = Counter(recorded.quarantined), Counter({"no_product": sum(strangers.values())})
    read, admitted = sum(quarantined.values()) + sum(strangers.values()), 0
    windows = OpenWindows(lanes=1)
    marks: dict[str, int] = {}
    rows: list[pl.DataFrame] = []
    for stream, readings in _streams(recorded, domain):
        good, bad = check(readings, stream, now)
        found = admit(
            good, stream, domain, tables[stream.partner], consent, keys=keys.epoch_key, mark=NO_MARK
        )
        quarantined.update(bad["reason"].to_list())
        refused.update(found.refused["reason"].to_list())
        read += readings.height
        admitted += found.admitted
        rows.append(_with_stream(found, stream))
        if good.height:
            marks[stream.topic] = int(good["end"].max())  # type: ignore[arg-type]  # an Int64 column's maximum
    plan = _from_first_window(plan, policy, rows)
    made, left_out = _release(windows, plan, rows, marks, areas, keys)
    return DryRun(
        made,
        left_out,
        read,
        admitted,
        dict(sorted(quarantined.items())),
        dict(sorted((+refused).items())),
        problems,
        idle_waivers,
        strangers,
        _waiting_for(domain, marks),
        marks,
    )


def usual_end(recorded: Recorded) -> int | None:
    """The time (ms) that the readings of half of all delivery points reach; None without any. A few rows dated far
    ahead cannot move it, whatever the others are."""
    ends = [
        frame.group_by("delivery_point").agg(pl.col("end").max())["end"]
        for partners in recorded.readings.values()
        for frame in partners.values()
    ]
    every = pl.concat(ends).sort() if ends else pl.Series(dtype=pl.Int64)
    return int(every[(len(every) - 1) // 2]) if len(every) else None


def _plan(
    policy: Policy, references: Mapping[str, frozenset[str]], recorded: Recorded, areas: AreaTree
) -> Plan:
    """The policy alone, with one stream per input and partner, named after the input."""
    streams = [
        Stream(
            partner,
            recorded.holdings.get(partner, partner),
            name,
            spec.measure,
            spec.kind,
            spec.smallest,
            spec.net,
        )
        for name, spec in policy.inputs.items()
        for partner in spec.partners
    ]
    alone = policy.model_copy(update={"window": policy.window.model_copy(update={"lateness": "PT0S"})})
    return build_plan([Activation(alone, 0, references)], streams, areas, policy.window.timezone)


def _rules(policy: Policy, holdings: Mapping[str, str]) -> tuple[Disclosure, list[Waiver]]:
    """The policy's rules without the waivers that can have no effect, and those waivers."""
    found: dict[bool, list[Waiver]] = {True: [], False: []}
    for waiver in policy.disclosure.waivers:
        partners = policy.inputs[waiver.column].partners
        found[waiver.holding in {holdings.get(partner, partner) for partner in partners}].append(waiver)
    return policy.disclosure.model_copy(update={"waivers": tuple(found[True])}), found[False]


def _site_tables(
    recorded: Recorded, domain: Domain, areas: AreaTree
) -> tuple[dict[str, SiteTable], list[tuple[str, str, str]]]:
    tables, problems = {}, []
    for partner in sorted({stream.partner for stream in domain.streams}):
        rows = recorded.sites.get(partner, SITE_ROWS.to_frame())
        tables[partner], found = SiteTable.build(rows, partner, areas, domain.group_level)
        problems += [(partner, point or "", reason) for point, reason in found.iter_rows()]
    return tables, problems


def _streams(recorded: Recorded, domain: Domain) -> Iterator[tuple[Stream, pl.DataFrame]]:
    """The recorded readings of each stream of the policy."""
    known = {(stream.name, stream.partner): stream for stream in domain.streams}
    for name, partners in sorted(recorded.readings.items()):
        for partner, readings in sorted(partners.items()):
            if (name, partner) in known:
                yield known[name, partner], readings


def _strangers(recorded: Recorded, domain: Domain) -> dict[tuple[str, str], int]:
    """How many readings of partners that the policy does not name there, by input and partner."""
    known = {(stream.name, stream.partner) for stream in domain.streams}
    return {
        (name, partner): readings.height
        for name, partners in sorted(recorded.readings.items())
        for partner, readings in sorted(partners.items())
        if (name, partner) not in known
    }


def _with_stream(found: Admission, stream: Stream) -> pl.DataFrame:
    return found.contributions.with_columns(
        pl.lit(stream.partner).alias("partner"),
        pl.lit(stream.holding).alias("holding"),
        pl.lit(stream.measure).alias("measure"),
        pl.lit(stream.kind).alias("kind"),
        pl.lit(stream.net).alias("net"),
    )


def _from_first_window(plan: Plan, policy: Policy, rows: list[pl.DataFrame]) -> Plan:
    """The plan, active from the first window that any reading contributes to."""
    domain = plan.domains[policy.domain]
    starts = [int(frame["window"].min()) for frame in rows if frame.height]  # type: ignore[arg-type]  # Int64
    if not starts:
        return Plan({}, plan.areas)
    first = domain.calendar.window(policy.window.length, min(starts)).start
    products = tuple(replace(product, active_from=first) for product in domain.products)
    return replace(plan, domains={domain.name: replace(domain, products=products)})


def _release(
    windows: OpenWindows,
    plan: Plan,
    rows: list[pl.DataFrame],
    marks: dict[str, int],
    areas: AreaTree,
    keys: Keys,
) -> tuple[list[Decision], list[LeftOut]]:
    windows.set_plan(plan)
    for domain in plan.domains.values():
        for (start,), part in pl.concat(rows).partition_by("window", as_dict=True).items():
            windows.fold(domain.name, int(start), part, 0)
        last = max(marks.values(), default=NO_MARK)
        for stream in domain.streams:
            # nothing comes after the file: an interval that began in a window has ended by its mark, or never will
            beyond = domain.overhang(stream)
            windows.mark(stream.topic, 0, marks.get(stream.topic, NO_MARK) + beyond)
            if domain.products[0].policy.window.on_stall == "release_without":
                windows.stalled(stream.topic, 0, last + beyond)
    made: list[Decision] = []
    left_out = []
    claims = _claims(plan, rows)
    for due in (due for closed in windows.close_next(1) for due in closed.due):
        found = counted(due, areas)
        made += [decision for _, decision in decided(due, areas, keys, found)]
        left_out.append(_left_out(due.window, found.units, claims))
    return made, left_out


def _claims(plan: Plan, rows: list[pl.DataFrame]) -> pl.DataFrame:
    """DataFrame[premises, measure, partner, window]: `rivals` of each base window, which starts at `window`."""
    found = [pl.DataFrame(schema=_CLAIMS)]
    for domain in plan.domains.values():
        every = pl.concat(rows).with_columns(pl.lit(0, pl.Int64).alias("seq"))
        several = pl.col("partner").min() != pl.col("partner").max()
        shared = every.group_by("window", *CLAIM).agg(several).filter("partner")
        contested = every.join(shared, on=["window", *CLAIM], how="semi")
        for (start,), part in contested.partition_by("window", as_dict=True).items():
            claims = rivals(part, domain, domain.calendar.window(domain.base, int(start)))
            found.append(claims.with_columns(pl.lit(start, pl.Int64).alias("window")))
    return pl.concat(found)


def _left_out(window: Window, homes: Units, claims: pl.DataFrame) -> LeftOut:
    within = claims.filter((pl.col("window") >= window.start) & (pl.col("window") < window.end))
    return LeftOut(
        window.start,
        homes.incomplete,
        homes.contested,
        homes.disagreeing,
        within["premises"].n_unique(),
        tuple(sorted(within["partner"].unique())),
    )


def _waiting_for(domain: Domain, marks: dict[str, int]) -> list[str]:
    """The streams without any mark: nothing can be released before they send."""
    return [f"{s.partner}/{s.name}" for s in domain.streams if s.topic not in marks]

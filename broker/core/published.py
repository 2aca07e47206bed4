"""Releases as their readers get them: put together again from the records of `out.<product>`, and checked.

A release is a manifest and its chunks of cells, written in one transaction (`stages.publish`). Invariants
- Only a whole and unaltered release becomes a `Published`: all chunks that its manifest counts, and the
  manifest's digest over their bytes in order. Anything else becomes a `Problem`, which says which release
  and never holds its cells.
- Releases are never revised: identical copies of a record are ignored, a second different manifest of one
  window and release group is a problem of that release, whichever came first.
- The order of the records does not matter, so neither does the partition that each was in.
- `release` names a release like the policy log and the evidence do: SHA-256 of the manifest in canonical
  JSON (RFC 8785).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from typing import Any, Final

import polars as pl
import rfc8785

from broker.core.calendar import Calendar
from broker.core.errors import InputError, OperatorError
from broker.core.report import CELLS, PUBLIC_CELLS, PUBLISHED, Report

MANIFEST: Final = "release-manifest"
CHUNK: Final = "release-cells"

_MENTIONED: Final = 12  # so many windows or codes fit into a message
_DATE: Final = re.compile(r"\d{4}-\d{2}(-\d{2})?", re.ASCII)


@dataclass(frozen=True)
class Record:
    """A decoded record of `out.<product>`. schema: its name; value: its fields, a chunk's `cells` as a DataFrame
    with the columns of PUBLIC_CELLS; raw: its bytes on the wire."""

    schema: str
    value: Mapping[str, Any]
    raw: bytes


@dataclass(frozen=True)
class Manifest:
    """The record `release-manifest` (its schema says what each field means), and the release's name."""

    release: str
    product: str
    version: int
    policy: str
    window_start: int
    window_end: int
    group: str
    hierarchy: str
    timezone: str
    levels: tuple[str, ...]
    measures: tuple[str, ...]
    partners: tuple[str, ...]
    left_out: tuple[str, ...]
    chunks: int
    cells_digest: str
    engine: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Manifest:
        values = {field.name: record[field.name] for field in fields(cls) if field.name != "release"}
        texts = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(release=sha256(rfc8785.dumps(dict(record))).hexdigest(), **(values | texts))


@dataclass(frozen=True)
class Published:
    """One release, whole and unaltered. cells: DataFrame with the columns of PUBLIC_CELLS, as released."""

    manifest: Manifest
    cells: pl.DataFrame


@dataclass(frozen=True)
class Problem:
    """A release that cannot be shown. start: ms; timezone: of its manifest, or UTC where that is missing."""

    start: int
    group: str
    timezone: str
    error: OperatorError


@dataclass(frozen=True)
class Releases:
    """All releases of one product, by window and release group; `problems` are those that cannot be shown."""

    product: str
    published: tuple[Published, ...]
    problems: tuple[Problem, ...]

    def whole(self) -> list[Published]:
        """All releases. Raises OperatorError for the first that cannot be shown."""
        for problem in self.problems:
            raise problem.error
        return list(self.published)


@dataclass(frozen=True)
class Decided:
    """The decision behind one release, from `evidence`. header: product, window_start, group and policy;
    cells: DataFrame with the columns of CELLS."""

    release: str
    header: Mapping[str, Any]
    cells: pl.DataFrame


def rebuild(product: str, records: Iterable[Record]) -> Releases:
    """The releases of `out.<product>` from all its records."""
    manifests: dict[tuple[int, str], dict[str, Manifest]] = {}
    chunks: dict[tuple[int, str], dict[int, dict[bytes, Record]]] = {}
    for record in records:
        place = (int(record.value["window_start"]), str(record.value["group"]))
        if record.schema == MANIFEST:
            manifest = Manifest.of(record.value)
            manifests.setdefault(place, {})[manifest.release] = manifest
        elif record.schema == CHUNK:
            numbers = chunks.setdefault(place, {})
            numbers.setdefault(int(record.value["chunk"]), {})[record.raw] = record
    published, problems = [], []
    for start, group in sorted(manifests.keys() | chunks.keys()):
        found = list(manifests.get((start, group), {}).values())
        timezone = found[0].timezone if found else "UTC"
        try:
            published.append(_release(product, start, group, found, chunks.get((start, group), {})))
        except OperatorError as error:
            problems.append(Problem(start, group, timezone, error))
    return Releases(product, tuple(published), tuple(problems))


def _release(
    product: str, start: int, group: str, manifests: list[Manifest], chunks: dict[int, dict[bytes, Record]]
) -> Published:
    """The one release of this window and group. Raises OperatorError."""
    zone = Calendar(manifests[0].timezone if manifests else "UTC")
    where = f"{product}, window {zone.iso(start)}, release group {group}"
    if not manifests:
        raise _bad("release_incomplete", "its manifest is missing", where)
    if len(manifests) > 1:
        names = " and ".join(sorted(m.cells_digest for m in manifests))
        raise _bad(
            "release_revised",
            f"there are two different manifests of it (cells {names}), and a release is never revised",
            where,
        )
    (manifest,) = manifests
    if manifest.product != product:
        raise _bad("release_altered", f"its manifest is of product {manifest.product}", where)
    parts = _chunks(manifest, chunks, where)
    found = "sha256:" + sha256(b"".join(part.raw for part in parts)).hexdigest()
    if found != manifest.cells_digest:
        raise _bad("release_altered", f"its cells are not those that its manifest names ({found})", where)
    cells = pl.concat([pl.DataFrame(schema=PUBLIC_CELLS), *(part.value["cells"] for part in parts)])
    _check_cells(cells, manifest, where)
    return Published(manifest, cells)


def _chunks(manifest: Manifest, chunks: dict[int, dict[bytes, Record]], where: str) -> list[Record]:
    """The manifest's chunks in order, each there once."""
    if missing := [str(number) for number in range(manifest.chunks) if number not in chunks]:
        text = ", ".join(missing[:_MENTIONED])
        raise _bad("release_incomplete", f"of its {manifest.chunks} chunks these are missing: {text}", where)
    for number, copies in sorted(chunks.items()):
        if not 0 <= number < manifest.chunks:
            raise _bad(
                "release_altered", f"chunk {number} is none of its {manifest.chunks}, counted from 0", where
            )
        if len(copies) > 1:
            raise _bad("release_altered", f"chunk {number} is there with different contents", where)
    return [next(iter(chunks[number].values())) for number in range(manifest.chunks)]


def _check_cells(cells: pl.DataFrame, manifest: Manifest, where: str) -> None:
    """What a table of releases relies on, and a digest cannot say."""
    strange = ~pl.col("level").is_in(manifest.levels) | ~pl.col("measure").is_in(manifest.measures)
    if cells.filter(strange).height:
        raise _bad("release_altered", "its cells have levels or measures that its manifest lacks", where)
    if cells.filter((pl.col("status") == PUBLISHED) != pl.col("value").is_not_null()).height:
        raise _bad("release_altered", "it has suppressed cells with a value, or others without", where)


def _bad(reason: str, what: str, where: str) -> OperatorError:
    return OperatorError(
        reason,
        f"{what}: it is not shown; the broker's operator must find out who wrote to the product's topic",
        where=where,
    )


def as_report(published: Published) -> Report:
    """The release as a report: `report.releases_csv` gives the same bytes as for a dry run's decision."""
    manifest = published.manifest
    calendar = Calendar(manifest.timezone)
    return Report(
        product=manifest.product,
        start=manifest.window_start,
        window_start=calendar.iso(manifest.window_start),
        window_end=calendar.iso(manifest.window_end),
        levels=manifest.levels,
        measures=manifest.measures,
        cells=published.cells,
    )


def decision_reports(published: Iterable[Published], decided: Iterable[Decided]) -> list[Report]:
    """The decisions behind these releases, as reports for `report.decisions_csv`.

    Raises OperatorError where a decision is missing (`evidence_missing`), or says otherwise about a cell than
    the release does (`evidence_differs`).
    """
    known = {decision.release: decision for decision in decided}
    return [replace(as_report(one), cells=_decision(one, known)) for one in published]


def _decision(one: Published, known: Mapping[str, Decided]) -> pl.DataFrame:
    manifest = one.manifest
    decision = known.get(manifest.release)
    start = Calendar(manifest.timezone).iso(manifest.window_start)
    where = f"{manifest.product}, window {start}, release group {manifest.group}"
    if decision is None:
        if one.cells.is_empty():
            return pl.DataFrame(schema=CELLS)  # nothing was decided, so nothing was written down
        raise OperatorError(
            "evidence_missing", "the topic evidence has no decision of this release: nothing explains it",
            where=where,
        )  # fmt: skip
    if not decision.cells.select(list(PUBLIC_CELLS)).equals(one.cells):
        raise OperatorError(
            "evidence_differs",
            "the decision in the topic evidence is not what was released: compare both with the policy log",
            where=where,
        )
    return decision.cells.select(list(CELLS))


def in_windows(releases: Releases, window: str) -> Releases:
    """The releases whose windows `window` asks for: `latest`, `all`, a local date (2026-01-31) or month
    (2026-01) in which they begin, or two of them, `first/last`, both included.

    Raises InputError: `bad_window` for any other text, `no_window` where no window begins then; the message
    says which there are.
    """
    days = {
        start: Calendar(zone).date(start)
        for start, zone in (
            *((one.manifest.window_start, one.manifest.timezone) for one in releases.published),
            *((problem.start, problem.timezone) for problem in releases.problems),
        )
    }
    wanted = _wanted(days, window)
    if not wanted:
        raise InputError("no_window", f"no window of {releases.product} for {window}: {_there_are(days)}")
    return Releases(
        releases.product,
        tuple(one for one in releases.published if one.manifest.window_start in wanted),
        tuple(problem for problem in releases.problems if problem.start in wanted),
    )


def _wanted(days: Mapping[int, str], window: str) -> set[int]:
    if window == "all":
        return set(days)
    if window == "latest":
        return {max(days)} if days else set()
    first, slash, last = window.partition("/")
    if not slash:
        last = first
    low, high = _edge(first, window, "-01"), _edge(last, window, "-31")
    if high < low:
        raise InputError("bad_window", f"`{window}` ends before it begins", where="--window")
    return {start for start, day in days.items() if low <= day <= high}


def _edge(text: str, window: str, day: str) -> str:
    """A date as text that sorts like its day; a month as its first or last day at most."""
    try:
        if _DATE.fullmatch(text):
            dt.date.fromisoformat(text if len(text) == len("2026-01-31") else text + "-01")
            return text if len(text) == len("2026-01-31") else text + day
    except ValueError:
        pass
    raise InputError(
        "bad_window",
        f"`{window[:60]}` is no window: write latest, all, a date like 2026-01-31, a month like 2026-01, or two "
        "of them like 2026-01-01/2026-01-31",
        where="--window",
    )


def _there_are(days: Mapping[int, str]) -> str:
    known = sorted(set(days.values()))
    if not known:
        return "nothing of it is released so far"
    if len(known) <= _MENTIONED:
        return f"its windows begin on {', '.join(known)}"
    return f"its windows begin on {len(known)} days from {known[0]} to {known[-1]}"


def missing_groups(chosen: Releases, released: Releases) -> dict[str, list[str]]:
    """Release groups that other windows of the product have and a chosen one has not (yet), by the window's
    start in ISO 8601; windows that lack none are left out."""
    groups: dict[int, set[str]] = {}
    for one in chosen.published:
        groups.setdefault(one.manifest.window_start, set()).add(one.manifest.group)
    every = {one.manifest.group for one in released.published}
    zones = {one.manifest.window_start: Calendar(one.manifest.timezone) for one in chosen.published}
    return {
        zones[start].iso(start): sorted(every - found)
        for start, found in sorted(groups.items())
        if every - found
    }


def narrowed(
    reports: Sequence[Report], areas: Sequence[str] = (), levels: Sequence[str] = ()
) -> list[Report]:
    """The reports with the cells of these areas and levels only; none given = all.

    Raises InputError (`unknown_level`, `unknown_area`) for one that no cell of the reports has.
    """
    _known("level", levels, {level for report in reports for level in report.levels})
    _known("area", areas, {area for report in reports for area in report.cells["area"].unique()})
    wanted = pl.lit(True)
    if areas:
        wanted &= pl.col("area").is_in(areas)
    if levels:
        wanted &= pl.col("level").is_in(levels)
    return [replace(report, cells=report.cells.filter(wanted)) for report in reports]


def _known(kind: str, asked: Sequence[str], known: set[str]) -> None:
    for code in asked:
        if code not in known:
            some = ", ".join(sorted(known)[:_MENTIONED]) + (" …" if len(known) > _MENTIONED else "")
            raise InputError(
                f"unknown_{kind}",
                f"these windows have no cell of {kind} {code[:40]}; they have {some or 'no cells at all'}",
                where=f"--{kind}",
            )

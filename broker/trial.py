"""A dry run's wiring: files in, the dry run, files out.

Invariants
- A run that fails or is refused leaves no results in the folder, also none of a run before it; no result takes the
  place of a file that it is made from.
- The same files give the same releases at any later time, unless they hold readings that are dated ahead both of
  the clock and of most other readings: those count once the clock has passed them. With `now` nothing depends on
  the clock.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from broker.core.areas import AreaTree
from broker.core.consent import SCHEMA as CONSENT_ROWS
from broker.core.errors import InputError
from broker.core.policy import Policy, load
from broker.core.reasons import REASONS
from broker.core.references import read_references
from broker.core.report import decisions_csv, releases_csv
from broker.edge.clock import SystemClock
from broker.edge.files import read_areas, read_consent, read_readings, read_sites
from broker.edge.keys import LocalKeys, load_keys
from broker.edge.results import prepare, write
from broker.edge.text_columns import instant
from broker.edge.text_files import read_text
from broker.stages.dryrun import DryRun, LeftOut, Recorded, dry_run, usual_end

Step = Callable[[str], None]
RESULTS = ("releases.csv", "decisions.csv", "summary.json")
TRIAL_KEYS = LocalKeys(bytes(32))
"""Known to everybody: pseudonyms never leave a dry run, and its rounding is a trial's."""


def run_trial(
    policy_file: Path,
    readings: Mapping[str, Path],
    sites: Path,
    areas: Path,
    consent: Path | None,
    cut: str | None,
    key_file: Path | None,
    out: Path,
    now: str | None = None,
    begins: Step = lambda _: None,
) -> tuple[dict[str, Any], list[str]]:
    """Reads the files, decides, writes `out`; the summary, and notes for the person at the terminal. begins: hears what
    is done next."""
    given = [policy_file, *readings.values(), sites, areas, consent, key_file]
    prepare([out / name for name in RESULTS], [path for path in given if path is not None])
    policy = load(read_text(policy_file), str(policy_file))
    tree = AreaTree.from_rows(policy.areas.hierarchy, read_areas(areas))
    cut_at = _moment(cut, "--cut")
    recorded = _recorded(policy, readings, sites, consent, begins)
    begins(f"admitting and deciding {_count(recorded):,} readings")
    result = dry_run(
        policy,
        read_references(policy, _references(policy, policy_file)),
        recorded,
        tree,
        load_keys(key_file) if key_file else TRIAL_KEYS,
        now=_now(_moment(now, "--now"), cut_at, recorded),
        cut=cut_at,
    )
    begins(f"writing {out}")
    return _write(result, out), [*_not_enforced(policy), *_notes(result)]


def _recorded(
    policy: Policy, readings: Mapping[str, Path], sites: Path, consent: Path | None, begins: Step
) -> Recorded:
    if set(readings) != set(policy.inputs):
        raise InputError(
            "wrong_inputs",
            f"--readings names {', '.join(sorted(readings))}; the policy's inputs are "
            f"{', '.join(sorted(policy.inputs))}: give one file for each",
        )
    frames: dict[str, dict[str, pl.DataFrame]] = {}
    quarantined: Counter[str] = Counter()
    for name, path in readings.items():
        begins(f"reading {path}")
        spec = policy.inputs[name]
        base, timezone = policy.window.base, policy.window.timezone
        found = read_readings(path, unit=spec.unit, kind=spec.kind, base=base, timezone=timezone)
        frames[name] = found.frames
        quarantined.update(found.quarantined)
    begins(f"reading {sites}")
    table = read_sites(sites)
    said = read_consent(consent) if consent else CONSENT_ROWS.to_frame()
    return Recorded(frames, quarantined, table.rows, table.holdings, said)


def _count(recorded: Recorded) -> int:
    return sum(frame.height for partners in recorded.readings.values() for frame in partners.values())


def _references(policy: Policy, policy_file: Path) -> dict[str, bytes]:
    found = {}
    for name, reference in policy.references.items():
        for folder in (
            policy_file.parent,
            policy_file.parent / "references",
            policy_file.parent.parent / "references",
        ):
            path = folder / reference.file
            if path.is_file():
                found[name] = path.read_bytes()
                break
    return found


def _write(result: DryRun, out: Path) -> dict[str, Any]:
    summary = {
        "read": result.read,
        "admitted": result.admitted,
        "quarantined": result.quarantined,
        "refused": result.refused,
        "cells": {
            "published": sum(d.summary.published for d in result.decisions),
            "primary": sum(d.summary.primary for d in result.decisions),
            "secondary": sum(d.summary.secondary for d in result.decisions),
        },
    }
    made = (
        releases_csv(result.decisions),
        decisions_csv(result.decisions),
        (json.dumps(summary, indent=2) + "\n").encode(),
    )
    write({out / name: data for name, data in zip(RESULTS, made, strict=True)})
    return summary


def _not_enforced(policy: Policy) -> list[str]:
    attestations = policy.disclosure.min_attestations
    if not attestations:
        return []
    return [f"min_attestations: {attestations} is not enforced yet: no figure is withheld for it"]


def _notes(result: DryRun) -> list[str]:
    """What a person must know: sites that cannot count, who is waited for, what was left aside and by whose fault."""
    notes = [
        f"partner {partner}, delivery point {point or '(none)'}: {REASONS[reason].text}; the partner must correct "
        f"its site record [{reason}]"
        for partner, point, reason in result.problems[:20]
    ]
    if len(result.problems) > 20:
        notes.append(f"{len(result.problems) - 20} more sites that cannot count")
    notes += [
        f"{count} readings of partner {partner} in the file of input {name}, where the policy does not name it: "
        "correct the file, or the input's partners [no_product]"
        for (name, partner), count in result.strangers.items()
    ]
    notes += [
        f"the waiver of {waiver.holding} for {waiver.column} is without effect: no partner of that input has sites "
        "under this holding. Correct the waiver or the sites file, if that is not meant [idle_waiver]"
        for waiver in result.idle_waivers
    ]
    if result.waiting_for and not result.decisions:
        notes.append(
            f"nothing is released: no reading of {', '.join(result.waiting_for)}, and the policy holds windows for "
            "every contributing partner [stalled]"
        )
    notes += _premises_left_out(result.left_out)
    for counts in (result.quarantined, result.refused):
        notes += [
            f"{count} readings {REASONS[reason].outcome}: {REASONS[reason].text} "
            f"(must act: {REASONS[reason].must_act}) [{reason}]"
            for reason, count in counts.items()
        ]
    return notes


def _premises_left_out(windows: list[LeftOut]) -> list[str]:
    disagreeing, claiming = (
        ", ".join(sorted({partner for each in windows for partner in getattr(each, name)}))
        for name in ("disagreeing", "claiming")
    )
    notes = (
        _not_counting(
            [each.contested for each in windows],
            "up to {} premises",
            "their delivery points disagree about area or segment. "
            f"{disagreeing} must compare and correct their site records [contested]",
        ),
        _not_counting(
            [each.claimed for each in windows],
            "readings of up to {} premises",
            "several partners say that they serve one home at one time. "
            f"{claiming} must compare and correct their site records [contested]",
        ),
        _not_counting(
            [each.incomplete for each in windows],
            "up to {} premises",
            "the readings of an input cover less of the window than the policy's coverage. "
            "Their partners must send what is missing [incomplete]",
        ),
    )
    return [note for note in notes if note]


def _not_counting(counts: list[int], what: str, why: str) -> str:
    """counts: per window; nothing where all are 0."""
    concerned = sum(count > 0 for count in counts)
    if not concerned:
        return ""
    return f"{what.format(max(counts))} do not count in each of {concerned} windows: {why}"


def _now(given: int | None, cut: int | None, recorded: Recorded) -> int:
    """What readings are compared with that lie in the future: see the module and `stages.dryrun`."""
    if given is not None:
        return given
    return max(SystemClock().now(), cut or 0, usual_end(recorded) or 0)


def _moment(text: str | None, option: str) -> int | None:
    moment = None if text is None else instant(text)
    if text is not None and moment is None:
        raise InputError(
            "bad_timestamp",
            f"`{text}` is not ISO 8601 with an offset: write for example 2026-01-31T00:00:00+01:00",
            where=option,
        )
    return moment

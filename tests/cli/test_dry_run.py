"""`broker dry-run` as its user meets it: files in, what would be released out."""

from __future__ import annotations

import json
import os
import pty
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from trial_files import ENERGY, LAX, PARIS, POINT, SUPPLIERS, WATER, Trial, consents, local, plain

# -- what comes out -----------------------------------------------------------------------------------


def test_the_files_have_the_promised_columns_and_the_command_ends_well(trial: Trial) -> None:
    assert trial.run() == 0
    releases, decisions = trial.rows("releases"), trial.rows("decisions")
    keys = ["product", "window_start", "window_end", "area", "level", "segment", "measure"]
    assert list(releases[0]) == [*keys, "value", "status"]
    assert list(decisions[0]) == [*keys, "true_value", "contributors", "holdings", "reasons"]
    assert [[row[key] for key in keys] for row in releases] == [
        [row[key] for key in keys] for row in decisions
    ]
    assert {row["segment"] for row in releases} == {"*"}
    assert releases[0] == {
        "product": "daily",
        "window_start": "2024-01-01T00:00:00+01:00",
        "window_end": "2024-01-02T00:00:00+01:00",
        "area": "K1",
        "level": "commune",
        "segment": "*",
        "measure": "homes",
        "value": "6",
        "status": "published",
    }
    assert trial.summary == {
        "read": 24,
        "admitted": 24,
        "quarantined": {},
        "refused": {},
        "cells": {"published": 12, "primary": 0, "secondary": 0},
    }


def test_the_summary_can_be_printed(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.run("--json") == 0
    assert json.loads(capsys.readouterr().out) == trial.summary


def test_whoever_waits_at_a_terminal_sees_what_is_being_done(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pty.openpty()
    read: list[bytes] = []

    def watch() -> None:  # meanwhile: a terminal that nobody reads fills up
        with suppress(OSError):  # the other side was closed
            while part := os.read(master, 1 << 16):
                read.append(part)

    eyes = threading.Thread(target=watch)
    eyes.start()
    with os.fdopen(slave, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        patched.setenv("COLUMNS", "300")
        assert trial.run() == 0
    eyes.join()
    os.close(master)
    shown = b"".join(read).decode()
    steps = [f"reading {trial.folder}/energy.csv", f"reading {trial.folder}/sites.csv"]
    places = [shown.index(step) for step in [*steps, "admitting and deciding 24 readings", "writing "]]
    assert places == sorted(places)


def test_a_script_sees_no_progress(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.run() == 0
    captured = capsys.readouterr()
    assert "reading " not in captured.err and "deciding" not in captured.err


def test_the_same_files_give_the_same_bytes_whatever_the_order_of_rows(trial: Trial) -> None:
    trial.run()
    before = [(trial.folder / "out" / name).read_bytes() for name in ("releases.csv", "decisions.csv")]
    trial.put("energy", reversed(plain(trial)))
    trial.homes = dict(reversed(trial.homes.items()))
    trial.run()
    assert [
        (trial.folder / "out" / name).read_bytes() for name in ("releases.csv", "decisions.csv")
    ] == before


def test_a_suppressed_cell_has_no_value_and_no_reason_that_everybody_sees(trial: Trial) -> None:
    trial.policy["disclosure"] = LAX | {"min_contributors": 7}
    assert trial.run() == 0
    for public, secret in zip(trial.rows("releases"), trial.rows("decisions"), strict=True):
        if public["area"] == "E1":
            assert (public["status"], public["value"]) == ("published", secret["true_value"])
        else:
            assert (public["status"], public["value"]) == ("suppressed", "")
            assert secret["reasons"] == "min_contributors:6<7"
            assert (secret["contributors"], secret["holdings"]) == ("6", "3")
    assert trial.summary["cells"] == {"published": 4, "primary": 8, "secondary": 0}


def test_a_commune_needs_no_other_where_no_total_above_them_is_published(trial: Trial) -> None:
    trial.homes.pop("energy-a-K2-1")
    trial.put("energy", plain(trial))
    trial.policy["disclosure"] = LAX | {"min_contributors": 6}
    for levels, expected in (
        (["commune", "epci"], {"K1": "suppressed", "K2": "suppressed", "E1": "published"}),
        (["commune"], {"K1": "published", "K2": "suppressed"}),
    ):
        trial.policy["areas"] = {"hierarchy": "iris-2026", "levels": levels, "group": "epci"}
        assert trial.run() == 0
        assert {row["area"]: row["status"] for row in trial.rows("releases")} == expected
    order = [(row["window_start"], row["area"]) for row in trial.rows("releases")]
    assert order == sorted(order)


def test_only_windows_that_every_partner_completed_are_released(trial: Trial) -> None:
    ahead = [("energy-a", POINT, local(3), 5), ("energy-b", "energy-b-K1-0", local(3), 5)]
    trial.put("energy", [*plain(trial), *ahead])
    assert trial.run() == 0
    assert sorted(set(trial.truth("used"))) == [
        (f"2024-01-0{d}", a) for d in (1, 2) for a in ("E1", "K1", "K2")
    ]
    assert trial.summary["admitted"] == 26


def test_the_last_row_of_one_point_and_interval_wins(trial: Trial) -> None:
    rows = plain(trial)
    trial.put("energy", [("energy-a", POINT, local(1), 9000), *rows, ("energy-a", POINT, local(2), 500)])
    assert trial.run() == 0
    assert trial.truth("used")["2024-01-01", "K1"] == "6000"
    assert trial.truth("used")["2024-01-02", "K1"] == "5500"
    assert trial.summary["read"] == trial.summary["admitted"] == 26


@pytest.mark.parametrize(("unit", "value", "wh"), [("kWh", "1.25", "7500"), ("MWh", "0.001", "6000")])
def test_values_come_in_the_inputs_unit_exactly(trial: Trial, unit: str, value: str, wh: str) -> None:
    trial.policy["inputs"] = {"energy": ENERGY | {"unit": unit}}
    trial.put("energy", plain(trial, value=value))
    assert trial.run() == 0
    assert trial.truth("used")["2024-01-01", "K1"] == wh


def test_feed_in_counts_below_zero_where_the_input_says_net_and_rules_judge_its_size(trial: Trial) -> None:
    rows = [
        (partner, point, at, -9000 if (point, at) == (POINT, local(1)) else value)
        for partner, point, at, value in plain(trial)
    ]
    trial.put("energy", rows)
    trial.policy["disclosure"] = LAX | {"dominance": [[1, 60]]}
    assert trial.run() == 0
    assert trial.summary["quarantined"] == {"negative": 1}
    trial.policy["inputs"] = {"energy": ENERGY | {"net": True}}
    trial.policy["measures"]["feeding"] = {"kind": "count", "where": {"energy": "sum < -8999.5"}}
    assert trial.run() == 0
    assert trial.summary["quarantined"] == {}
    assert trial.truth("used")["2024-01-01", "K1"] == "-4000"
    assert trial.truth("used")["2024-01-01", "E1"] == "2000"
    assert trial.truth("feeding")["2024-01-01", "K1"] == "1"
    why = {(r["window_start"][:10], r["area"], r["measure"]): r["reasons"] for r in trial.rows("decisions")}
    assert why["2024-01-01", "K1", "used"] == "dominance:1 largest 9000>60% of 14000"
    assert why["2024-01-02", "K1", "used"] == ""


# -- recomputed ---------------------------------------------------------------------------------------

RULES = {
    "min_contributors": 4,
    "min_holdings": 3,
    "p_percent": 15,
    "dominance": [[1, 60]],
    "without_each_holding": True,
    "zero_is_sensitive": True,
}


def uneven(trial: Trial) -> dict[str, int]:
    """Homes of many sizes in both communes and segments; some cells are safe, some by no rule. Wh per point."""
    trial.policy |= {
        "disclosure": RULES,
        "dimensions": ["segment"],
        "measures": {"used": trial.policy["measures"]["used"]},
    }
    trial.homes.clear()
    used = {}
    counts = {
        ("K1", "house"): (9, 8, 7),
        ("K1", "flat"): (3, 3, 3),
        ("K2", "house"): (6, 7, 8),
        ("K2", "flat"): (8, 6, 1),
        ("K3", "house"): (5, 5, 5),
        ("K3", "flat"): (7, 6, 6),
    }
    for (area, segment), numbers in counts.items():
        for partner, count in zip(SUPPLIERS, numbers, strict=True):
            for i in range(count):
                point = f"{partner}-{area}-{segment}-{i}"
                trial.homes[point] = partner, area, segment
                used[point] = 1000 + 137 * len(used) % 700
    used["energy-a-K3-house-0"] = 90_000
    return used


def unsafe(parts: list[tuple[str, int]]) -> bool:
    """The primary rules by their definition; parts: (holding, value) of each home."""
    by_holding: dict[str, int] = defaultdict(int)
    for holding, value in parts:
        by_holding[holding] += value
    total, largest = sum(value for _, value in parts), [*sorted(by_holding.values(), reverse=True), 0, 0]
    alone = few(parts) or len(by_holding) < 3 or 100 * (total - largest[0] - largest[1]) < 15 * largest[0]
    rests = ([part for part in parts if part[0] != holding] for holding in by_holding)
    return alone or total == 0 or any(rest and few(rest) for rest in rests)


def few(parts: list[tuple[str, int]]) -> bool:
    total, most = sum(value for _, value in parts), max(value for _, value in parts)
    return len(parts) < 4 or 100 * most > 60 * total


@pytest.mark.parametrize("levels", [["commune", "epci"], ["commune"]])
def test_a_release_is_what_a_loop_in_plain_python_makes_of_the_same_files(
    levels: list[str], trial: Trial
) -> None:
    """Also where the release group is none of the published levels."""
    used = uneven(trial)
    trial.policy["areas"] = {"hierarchy": "iris-2026", "levels": levels, "group": "epci"}
    trial.put("energy", [(trial.homes[point][0], point, local(1), value) for point, value in used.items()])
    assert trial.run() == 0
    expected: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for point, value in used.items():
        partner, area, segment = trial.homes[point]
        for where in (area, {"K1": "E1", "K2": "E1", "K3": "E2"}[area])[: len(levels)]:
            for which in (segment, "*"):
                expected[where, which].append((SUPPLIERS[partner], value))
    decided = {(row["area"], row["segment"]): row for row in trial.rows("decisions")}
    public = {(row["area"], row["segment"]): row for row in trial.rows("releases")}
    assert decided.keys() == public.keys() == expected.keys()
    primary = {cell for cell, parts in expected.items() if unsafe(parts)}
    assert primary
    assert len(primary) < len(expected)
    for cell, parts in expected.items():
        row = decided[cell]
        assert row["true_value"] == str(sum(value for _, value in parts))
        assert int(row["contributors"]) == len(parts)
        assert int(row["holdings"]) == len({holding for holding, _ in parts})
        assert (cell in primary) == (row["reasons"] not in ("", "secondary")), (cell, row)
        assert (public[cell]["status"] == "published") == (row["reasons"] == "")
    hidden = {cell for cell, row in public.items() if row["status"] == "suppressed"}
    assert trial.summary["cells"] == {
        "published": len(public) - len(hidden),
        "primary": len(primary),
        "secondary": len(hidden) - len(primary),
    }
    for cell in primary:
        assert not determined(cell, hidden, set(expected))


def determined(cell: tuple[str, str], hidden: set[tuple[str, str]], cells: set[tuple[str, str]]) -> bool:
    """Whether the published cells and the sums of the table leave one value for `cell`: elimination in rationals
    over the atoms (commune, segment)."""
    parents = {"K1": "E1", "K2": "E1", "K3": "E2"}
    atoms = sorted((a, s) for a, s in cells if a in parents and s != "*")

    def row(which: tuple[str, str]) -> list[Fraction]:
        area, segment = which
        return [Fraction(area in (a, parents[a]) and segment in (s, "*")) for a, s in atoms]

    known = [row(each) for each in cells - hidden]
    return rank(known) == rank([*known, row(cell)])


def rank(rows: list[list[Fraction]]) -> int:
    rows, found = [list(row) for row in rows], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(found, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        for i in range(found + 1, len(rows)):
            factor = rows[i][column] / rows[found][column]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[found], strict=True)]
        found += 1
    return found


# -- time ---------------------------------------------------------------------------------------------


def test_a_month_counts_homes_with_enough_of_its_days(trial: Trial) -> None:
    trial.policy |= {
        "window": {"length": "P1M", "base": "P1D", "timezone": "Europe/Paris"},
        "coverage": 0.9,
    }
    short, enough = POINT, "energy-a-K1-1"
    missing = {short: set(range(3, 7)), enough: set(range(3, 6))}  # 27 and 28 of 31 days: 0.87 and 0.903
    rows = [row for row in plain(trial, range(1, 32)) if int(row[2][8:10]) not in missing.get(row[1], set())]
    trial.put("energy", rows)
    assert trial.run() == 0
    assert trial.truth("homes") == {
        ("2024-01-01", "K1"): "5",
        ("2024-01-01", "K2"): "6",
        ("2024-01-01", "E1"): "11",
    }
    assert trial.truth("used")["2024-01-01", "K1"] == str(1000 * (4 * 31 + 28))
    assert trial.rows("releases")[0]["window_end"] == "2024-02-01T00:00:00+01:00"


@pytest.mark.parametrize(("day", "month", "hours"), [(31, 3, 23), (27, 10, 25), (15, 6, 24)])
def test_days_when_clocks_change_have_their_hours(trial: Trial, day: int, month: int, hours: int) -> None:
    trial.policy["window"] = {"length": "P1D", "base": "PT1H", "timezone": "Europe/Paris"}
    start = datetime(2024, month, day, tzinfo=PARIS).astimezone(ZoneInfo("UTC"))
    moments = [(start + timedelta(hours=hour)).isoformat() for hour in range(hours)]
    trial.put("energy", [(home[0], point, at, 10) for point, home in trial.homes.items() for at in moments])
    assert trial.run() == 0
    (date,) = {date for date, _ in trial.truth("used")}
    assert date == f"2024-{month:02}-{day:02}"
    assert trial.truth("used")[date, "K1"] == str(6 * 10 * hours)
    row = trial.rows("releases")[0]
    length = datetime.fromisoformat(row["window_end"]) - datetime.fromisoformat(row["window_start"])
    assert length == timedelta(hours=hours)


def test_a_register_counts_what_it_moved_from_midnight_to_midnight(trial: Trial) -> None:
    trial.policy |= {
        "inputs": {"water": WATER},
        "measures": {"used": {"kind": "sum", "input": "water", "unit": "mL"}},
    }
    trial.policy["disclosure"] = LAX | {
        "waivers": [
            {"holding": "holding-w", "column": "water", "basis": "Decree 2016-973", "areas": ["epci"]}
        ]
    }
    trial.homes = {f"w{i}": ("water-n", "K1", "house") for i in range(6)}
    moments = [local(1), local(2)[:11] + "12:00:00+01:00", local(3)]
    values = {local(1): 100, moments[1]: 170, local(3): 400}
    trial.readings = {}
    trial.put(
        "water",
        [("water-n", point, at, values[at] + i) for i, point in enumerate(trial.homes) for at in moments],
    )
    assert trial.run() == 0
    # On the first day nothing was read but its opening value: no evidence that nothing was used.
    assert trial.truth("used") == {("2024-01-02", area): "1800" for area in ("K1", "E1")}


# -- consent ------------------------------------------------------------------------------------------


def test_an_objection_empties_every_window_unless_it_comes_after_the_cut(trial: Trial) -> None:
    trial.consent = consents((POINT, "planning", "", "", local(2)), (POINT, "another", "", "", local(1)))
    assert trial.run() == 0
    assert trial.truth("homes")["2024-01-01", "K1"] == trial.truth("homes")["2024-01-02", "K1"] == "5"
    assert trial.summary["refused"] == {"withdrawn": 2}
    assert trial.run("--cut", local(1)) == 0
    assert trial.truth("homes")["2024-01-02", "K1"] == "6"
    assert trial.summary["refused"] == {}
    assert trial.run("--cut", local(2)) == 0
    assert trial.truth("homes")["2024-01-01", "K1"] == "5"


def test_a_new_grant_counts_from_the_next_window_and_an_expired_one_no_more(trial: Trial) -> None:
    trial.policy["lawful_basis"] = {"kind": "consent"}
    granted = [(point, "planning", local(1, 12).replace("2024", "2023"), "", "") for point in trial.homes]
    late, expiring, never, refused = "energy-a-K1-0", "energy-a-K1-1", "energy-b-K1-0", "energy-b-K1-1"
    said: dict[str, tuple[object, ...]] = {
        late: (late, "planning", local(1)[:11] + "10:00:00+01:00", "", ""),
        expiring: (expiring, "planning", local(1), local(2), ""),
        never: (never, "another", local(1), "", ""),
        refused: (refused, "planning", local(1), "", local(2)),
    }
    trial.consent = consents(*(said.get(str(row[0]), row) for row in granted))
    trial.put("energy", plain(trial, (1, 2, 3)))
    assert trial.run() == 0
    homes = trial.truth("homes")
    assert [homes[f"2024-01-0{day}", "K1"] for day in (1, 2, 3)] == ["3", "3", "3"]
    assert [homes[f"2024-01-0{day}", "K2"] for day in (1, 2, 3)] == ["6"] * 3
    assert trial.summary["refused"] == {"expired": 2, "no_basis": 3, "not_yet_granted": 1, "withdrawn": 3}


def test_without_a_consent_file_nobody_has_consented(trial: Trial) -> None:
    trial.policy["lawful_basis"] = {"kind": "consent"}
    assert trial.run() == 0
    assert trial.rows("releases") == []
    assert trial.summary["refused"] == {"no_basis": 24}


def test_a_cut_without_an_offset_is_bad_input(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.run("--cut", "2024-01-01") == 2
    assert "--cut" in capsys.readouterr().err

"""`broker protect`: what a statistician gets of one static table."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from table_files import REGIONS, Case, Line

from broker import cli

MARGINS = {"Total": [], **{code: [parent] for code, parent in REGIONS.items()}}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def above(code: str) -> list[str]:
    return [code, *above(REGIONS[code])] if code in REGIONS else ["Total"]


def recount(rows: list[Line]) -> dict[tuple[str, str], tuple[int, set[str]]]:
    """Total and companies of every cell, by loops."""
    found: dict[tuple[str, str], tuple[int, set[str]]] = defaultdict(lambda: (0, set()))
    for region, sector, company, _, turnover in rows:
        for place in above(str(region)):
            for kind in (str(sector), "Total"):
                total, names = found[place, kind]
                found[place, kind] = total + int(str(turnover)), names | {str(company)}
    return dict(found)


def test_every_cell_of_every_margin_with_its_total_and_what_becomes_of_it(case: Case) -> None:
    assert case.protect() == 0
    expected = recount(case.rows)
    table = case.table()
    assert list(table[0]) == ["region", "sector", "value", "contributors", "status", "reason"]
    assert {(row["region"], row["sector"]) for row in table} == set(expected)
    assert len(table) == len(expected) == 21
    for row in table:
        total, names = expected[row["region"], row["sector"]]
        assert (row["value"], row["contributors"]) == (str(total), str(len(names)))
        assert (row["status"] == "primary") == (len(names) < 3) == (row["reason"] == "min_contributors:1<3")
        assert (row["reason"] == "") == (row["status"] == "published")
        assert (row["reason"] == "secondary") == (row["status"] == "secondary")
    assert case.cell("N1", "b")["status"] == "primary"
    assert case.cell("N1", "a")["status"] == "secondary"
    assert case.cell("Total", "Total")["status"] == "published"


def test_cells_come_in_the_order_of_the_hierarchy_margins_first(case: Case) -> None:
    case.protect()
    assert list(dict.fromkeys(row["region"] for row in case.table())) == [
        "Total",
        "N",
        "N1",
        "N2",
        "S",
        "S1",
        "S2",
    ]
    assert [row["sector"] for row in case.table()[:3]] == ["Total", "a", "b"]


def test_the_public_sees_nothing_of_a_suppressed_cell_not_even_which_is_the_unsafe_one(case: Case) -> None:
    case.protect()
    truth = case.table()
    assert case.protect("--public") == 0
    public = case.table()
    assert list(public[0]) == list(truth[0])
    assert {row["status"] for row in public} == {"published", "suppressed"}
    for row, known in zip(public, truth, strict=True):
        if known["status"] == "published":
            assert row == known
        else:
            assert [row[name] for name in ("value", "contributors", "status", "reason")] == [
                "",
                "",
                "suppressed",
                "",
            ]
    assert "min_contributors" not in case.out.read_text() and "secondary" not in case.out.read_text()


def test_nobody_computes_the_unsafe_cell_from_the_published_ones(case: Case) -> None:
    """By hand: every line in which (N1, b) lies keeps another cell back."""
    case.protect()
    status = {(row["region"], row["sector"]): row["status"] for row in case.table()}
    assert any(status["N1", sector] != "published" for sector in ("a", "Total"))
    assert any(status[region, "b"] != "published" for region in ("N2", "N"))


def test_totals_are_value_times_weight_in_the_inputs_decimals_and_frequency_counts_weight(case: Case) -> None:
    case.head = ("region", "sector", "value", "weight")
    case.rows = [
        ("N1", "a", "0.1", "2.5"), ("N1", "a", "0.2", "1"), ("N1", "a", "1e1", "3"), ("N1", "b", "5.50", "2.9"),
        *[(region, sector, 7, 4) for region in ("N2", "S1", "S2") for sector in ("a", "b")],
    ]  # fmt: skip
    case.spec = {"dimensions": case.spec["dimensions"], "rules": {"min_contributors": 3}}
    assert case.protect() == 0
    cell = case.cell("N1", "a")
    assert (cell["value"], cell["contributors"]) == ("30.45", "6.5")
    unsafe = case.cell("N1", "b")
    assert (unsafe["value"], unsafe["contributors"]) == ("15.95", "2.9")
    assert unsafe["reason"] == "min_contributors:2.9<3"
    assert case.cell("N2", "a")["status"] != "primary"  # one row that stands for four
    assert Decimal(case.cell("Total", "Total")["value"]) == Decimal("30.45") + Decimal("15.95") + 6 * 28


def test_without_values_a_table_counts_rows_by_weight(case: Case) -> None:
    case.head = ("region", "sector")
    case.rows = [(row[0], row[1]) for row in case.rows]
    case.spec = {"dimensions": case.spec["dimensions"], "rules": {"min_contributors": 3}}
    assert case.protect() == 0
    assert case.cell("Total", "Total")["value"] == case.cell("Total", "Total")["contributors"] == "43"
    assert case.cell("N1", "b")["status"] == "primary"


def test_a_contributor_in_several_cells_is_counted_once_in_their_total(case: Case) -> None:
    case.rows = [(*row[:2], f"c{i % 2}", f"g{i % 2}", 10) for i, row in enumerate(case.rows)]
    assert case.protect() == 0
    assert {row["contributors"] for row in case.table()} == {"1", "2"}
    assert {row["status"] for row in case.table()} == {"primary"}


def test_reasons_name_every_rule_with_its_numbers(case: Case) -> None:
    case.spec["rules"] = {
        "min_contributors": 3, "min_holdings": 2, "p_percent": 10, "dominance": [[1, 85]],
        "without_each_holding": True, "zero_is_sensitive": True,
    }  # fmt: skip
    case.rows.append(("N2", "b", "giant", "g9", 10_000))
    assert case.protect() == 0
    assert case.cell("N1", "b")["reason"] == (
        "min_contributors:1<3;dominance:1 largest 100>85% of 100;min_holdings:1<2;p_percent:0<10% of 100"
    )
    giant = case.cell("N2", "b")["reason"]
    assert giant.startswith("dominance:1 largest 10000>85% of 10615;p_percent:409<10% of 10000")


# --- linked tables -----------------------------------------------------------------------------------------


def linked(case: Case) -> None:
    """Zones that cut the regions; the only company of S2 outside zone u is a sliver."""
    zones = {"N1": "u", "N2": "v", "S1": "v", "S2": "u"}
    case.head = (*case.head, "zone")
    case.rows = [(*row, zones[str(row[0])]) for row in case.rows]
    case.rows = [(*row[:-1], "v") if row[2] == "S2a0" else row for row in case.rows]
    case.spec["linked"] = [{"name": "zones", "dimensions": {"zone": {}, "sector": {}}}]


def test_a_linked_table_is_written_beside_and_agrees_with_the_main_one(case: Case) -> None:
    linked(case)
    assert case.protect() == 0
    zones = case.table("zones")
    assert (case.folder / "table.csv.zones.csv").is_file()
    assert {(row["zone"], row["sector"]) for row in zones} == {
        (z, s) for z in ("Total", "u", "v") for s in ("Total", "a", "b")
    }
    for sector in ("Total", "a", "b"):
        main, other = case.cell("Total", sector), case.cell("Total", sector, name="zones")
        assert (main["value"], main["status"]) == (other["value"], other["status"])
    assert sum(int(row["value"]) for row in zones if row["sector"] == "a" and row["zone"] != "Total") == int(
        case.cell("Total", "a")["value"]
    )


def test_a_sliver_between_linked_tables_cannot_be_computed(case: Case) -> None:
    """(S2, a) less zone u is one company: with N1 and S2 and u published it would be N1 + S2 − u."""
    linked(case)
    case.rows = [row for row in case.rows if row[1] == "a"]
    assert case.protect() == 0
    shown = {row["region"] for row in case.table() if row["status"] == "published"}
    zones = {row["zone"] for row in case.table("zones") if row["status"] == "published"}
    assert not ({"N1", "S2"} <= shown and "u" in zones)
    control = Case(case.folder, rows=[row[:-1] for row in case.rows])
    assert control.protect() == 0  # the main table alone has nothing to hide
    assert {row["status"] for row in control.table()} == {"published"}


# --- how it behaves ----------------------------------------------------------------------------------------


def test_the_order_of_rows_and_the_run_change_no_byte(case: Case) -> None:
    linked(case)
    case.protect()
    expected = {path.name: path.read_bytes() for path in case.folder.glob("table*.csv")}
    assert set(expected) == {"table.csv", "table.csv.zones.csv"}
    for seed in range(3):
        random.Random(seed).shuffle(case.rows)
        case.protect()
        assert {path.name: path.read_bytes() for path in case.folder.glob("table*.csv")} == expected


def test_json_says_how_many_cells_and_how_much_mass_each_table_lost(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    linked(case)
    assert case.protect("--json") == 0
    tables: dict[str, Any] = json.loads(capsys.readouterr().out)["tables"]
    assert list(tables) == [str(case.out), f"{case.out}.zones.csv"]
    for name, summary in zip(("", "zones"), tables.values(), strict=True):
        rows = case.table(name)
        mass = sum(int(row["value"]) for row in rows)
        for status, number in summary["cells"].items():
            mine = [int(row["value"]) for row in rows if row["status"] == status]
            assert number == len(mine)
            if status != "published":
                assert summary["mass_percent"][status] == pytest.approx(100 * sum(mine) / mass, abs=0.01)


def test_a_table_without_anything_unsafe_is_published_whole(case: Case) -> None:
    case.rows = [row for row in case.rows if row[:2] != ("N1", "b")]
    assert case.protect() == 0
    assert {row["status"] for row in case.table()} == {"published"}


@pytest.mark.parametrize("name", ["protect", "audit-table"])
def test_help_shows_an_example_and_the_exit_statuses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"broker {name} " in said and "Example:" in said
    assert "Exit status: 0" in said and "3 " in said.partition("Exit status")[2]


# --- limits ------------------------------------------------------------------------------------------------


def test_more_memory_than_allowed_is_refused_and_nothing_is_left(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    assert case.protect() == 0
    assert case.protect("--max-memory", "1") == 3
    assert "--max-memory" in capsys.readouterr().err
    assert not case.out.exists()


def test_more_iterations_than_allowed_are_refused_and_nothing_is_left(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(4)
    case.rows = [
        (
            rng.choice(["N1", "N2", "S1", "S2"]),
            rng.choice("abcdefgh"),
            f"c{i}",
            f"g{i % 9}",
            int(10 ** rng.uniform(0, 4)),
        )
        for i in range(150)
    ]
    case.spec["rules"] = {"min_contributors": 4, "p_percent": 20}
    assert case.protect() == 0  # control
    assert case.protect("--max-iterations", "1") == 3
    assert "iterations" in capsys.readouterr().err
    assert not case.out.exists()


def test_interrupted_it_ends_with_130_and_leaves_no_file(case: Case) -> None:
    rng = random.Random(1)
    case.rows = [
        (
            rng.choice(["N1", "N2", "S1", "S2"]),
            f"s{rng.randrange(3000)}",
            f"c{i}",
            f"g{i % 500}",
            rng.randrange(10**6),
        )
        for i in range(60_000)
    ]
    case.write()
    case.out.write_text("of a run before")
    command = [sys.executable, "-m", "broker", "protect", "m.csv", "--spec", "s.yaml", "--out", "table.csv"]
    process = subprocess.Popen(
        command,
        cwd=case.folder,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    while case.out.exists():  # the work begins by removing it
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (130, "broker: interrupted")
    assert sorted(path.name for path in case.folder.iterdir()) == ["m.csv", "regions.csv", "s.yaml"]

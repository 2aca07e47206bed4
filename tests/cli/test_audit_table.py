"""`broker audit-table`: what everybody can compute of what a table suppresses, and whether it is too close."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from table_files import Case, put, read

from broker import cli


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def findings(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["findings"]
    return found


def publish_but_the_unsafe(case: Case) -> None:
    """The table of someone who forgot secondary suppression."""
    head, *_ = [list(row) for row in case.table()]
    rows = [
        {**row, "status": "published", "reason": ""} if row["status"] == "secondary" else row
        for row in case.table()
    ]
    put(case.out, head, [row.values() for row in rows])


# --- known answers -----------------------------------------------------------------------------------------


def known(shared_data: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((shared_data / "sdc" / "known_answers.json").read_text())
    return values


def published_only(folder: Path, rows: dict[tuple[str, str], int | None]) -> list[str]:
    """The command that audits a table of two flat dimensions, of which only what is published is known."""
    put(
        folder / "t.csv",
        ("row", "column", "value", "contributors", "status", "reason"),
        [
            (*codes, "", "", "suppressed", "") if value is None else (*codes, value, "", "published", "")
            for codes, value in rows.items()
        ],
    )
    (folder / "s.yaml").write_text("dimensions: {row: , column: }\nrules: {min_contributors: 3}\n")
    return ["audit-table", str(folder / "t.csv"), "--spec", str(folder / "s.yaml")]


def test_the_published_problem_gives_its_published_intervals_and_the_exact_cell_falls_short(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two suppressions in every line, and yet (w, b) is exact."""
    problem = known(shared_data)["sdctable_problemdata"]
    published = {
        tuple(name.replace("tot", "Total").split(",")): value for name, value in problem["published"].items()
    }
    cells = {
        (r, c): published.get((r, c))
        for r in ("w", "x", "y", "z", "Total")
        for c in ("a", "b", "c", "d", "Total")
    }
    assert cli.run([*published_only(tmp_path, cells), "--json"]) == 1
    found = {each["figure"]: each for each in findings(capsys)}
    assert len(found) == len(problem["intervals"])
    for name, (low, high) in problem["intervals"].items():
        row, column = name.split(",")
        each = found[f"row={row}, column={column}"]
        assert (float(each["low"]), float(each["high"])) == (low, high), name
        assert each["short"] == (name == "w,b")
        assert (each["attacker"], each["status"]) == ("outsider", "suppressed")


def test_the_handbooks_example_gives_its_intervals(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = known(shared_data)["hb_ex3"]
    p = example["published"]
    cells = {
        ("1", "1"): None, ("1", "2"): None, ("1", "Total"): p["r1"],
        ("2", "1"): None, ("2", "2"): None, ("2", "Total"): p["r2"],
        ("3", "1"): p["x31"], ("3", "2"): p["x32"], ("3", "Total"): p["r3"],
        ("Total", "1"): p["c1"], ("Total", "2"): p["c2"], ("Total", "Total"): p["T"],
    }  # fmt: skip
    assert cli.run([*published_only(tmp_path, cells), "--json"]) == 0
    for each in findings(capsys):
        name = "x" + "".join(part.split("=")[1] for part in each["figure"].split(", "))
        assert [float(each["low"]), float(each["high"])] == example["intervals"][name]


def test_who_is_alone_in_the_handbooks_cell_computes_its_neighbour(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own figure and the row's total are the other cell; so does who is alone at the other end of the square. With
    `singletons` off nobody is taken to know that it is alone."""
    assert "knows x11 exactly" in known(shared_data)["hb_ex3"]["if_x12_contributor_is_singleton"]
    values = {
        ("1", "1"): [2, 1, 1],
        ("1", "2"): [3],
        ("2", "1"): [1, 1],
        ("2", "2"): [1],
        ("3", "1"): [1] * 3,
        ("3", "2"): [1] * 3,
    }
    case = Case(
        tmp_path,
        rows=[
            (*codes, f"{''.join(codes)}{i}", value)
            for codes, parts in values.items()
            for i, value in enumerate(parts)
        ],
        head=("row", "column", "who", "value"),
        hierarchies={},
    )
    case.spec = {
        "dimensions": {"row": {}, "column": {}},
        "contributor": "who",
        "rules": {"p_percent": 10},
        "protect": {"insiders": False, "prior": False},
    }
    put(
        case.out,
        ("row", "column", "value", "status"),
        [
            ("1", "1", "", "suppressed"), ("1", "2", "", "suppressed"), ("1", "Total", 7, "published"),
            ("2", "1", "", "suppressed"), ("2", "2", "", "suppressed"), ("2", "Total", 3, "published"),
            ("3", "1", 3, "published"), ("3", "2", 3, "published"), ("3", "Total", 6, "published"),
            ("Total", "1", 9, "published"), ("Total", "2", 7, "published"), ("Total", "Total", 16, "published"),
        ],
    )  # fmt: skip
    case.spec["rules"] = {"min_contributors": 4}
    assert case.audit("--json") == 1
    told = [each for each in findings(capsys) if each["figure"] == "row=1, column=1" and each["short"]]
    assert {each["attacker"] for each in told} == {"120 (alone in a part)", "220 (alone in a part)"}
    assert all(each["low"] == each["high"] == "4" for each in told)
    case.spec["protect"]["singletons"] = False
    case.audit("--json")
    assert not [each for each in findings(capsys) if each["figure"] == "row=1, column=1" and each["short"]]


# --- tables of ours, and of others -------------------------------------------------------------------------


def test_a_table_that_was_protected_passes(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.protect() == 0
    capsys.readouterr()
    assert case.audit() == 0
    said = capsys.readouterr().out
    assert "region=N1, sector=b" in said and "TOO CLOSE" not in said and "\n0 of " in said
    case.protect("--public")
    assert case.audit() == 0
    assert case.audit(microdata=False) == 0


def test_a_table_without_secondary_suppression_falls_short_and_the_cell_is_named(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.protect("--public")
    truth = Case(case.folder)
    truth.protect()
    publish_but_the_unsafe(truth)
    capsys.readouterr()
    assert case.audit("--json") == 1
    short = [each for each in findings(capsys) if each["short"]]
    assert ("region=N1, sector=b", "100", "100") in {
        (each["figure"], each["low"], each["high"]) for each in short
    }
    assert case.audit(microdata=False) == 1
    assert "TOO CLOSE" in capsys.readouterr().out


def test_an_unsafe_cell_that_was_published_falls_short(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.protect()
    rows = [{**row, "status": "published"} for row in case.table()]
    put(case.out, list(rows[0]), [row.values() for row in rows])
    capsys.readouterr()
    assert case.audit("--json") == 1
    short = {(each["figure"], each["status"]) for each in findings(capsys) if each["short"]}
    assert ("region=N1, sector=b", "published") in short


def test_an_insider_knows_more_than_the_outsider_and_is_named(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """a and b are hidden, 1801 together, and g1 has 1400 of it: nearly all the rest, 401, is g2's in a."""
    case.rows = [("N1", "a", "big", "g1", 500), ("N1", "a", "small", "g2", 400)]
    case.rows += [("N1", "b", "other", "g1", 900), ("N1", "b", "tiny", "g4", 1)]
    case.rows += [("N1", "c", f"c{i}", f"g{i}", 100) for i in range(6)]
    case.hierarchies = {}
    case.spec |= {"dimensions": {"sector": {}}, "rules": {"p_percent": 10}}
    case.spec["protect"] = {"prior": False, "singletons": False}
    put(
        case.out,
        ("sector", "value", "status"),
        [
            ("Total", 2401, "published"),
            ("a", "", "suppressed"),
            ("b", "", "suppressed"),
            ("c", 600, "published"),
        ],
    )
    assert case.audit("--json") == 1
    found = {each["attacker"]: each for each in findings(capsys) if each["figure"] == "sector=a"}
    known = {who: (each["low"], each["high"], each["level"], each["short"]) for who, each in found.items()}
    assert known["outsider"] == ("0", "1801", "90", False)
    assert known["g1"] == ("500", "901", "40", True)  # a tenth of the 400 that it lacks, up and down
    assert case.audit() == 1
    told = capsys.readouterr().out.splitlines()
    assert any("sector=a" in line and " g1 " in line and "TOO CLOSE" in line for line in told)
    case.spec["protect"]["insiders"] = False
    case.audit("--json")
    assert not [
        each for each in findings(capsys) if each["figure"] == "sector=a" and each["short"]
    ]  # control


def test_a_pair_is_an_attacker_where_four_or_more_contribute(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a and b, 802 hidden together, g1 and g2 have all but a sixth; each alone lacks half."""
    case.rows = [("N1", sector, f"{sector}{i}", f"g{i}", 200) for sector in "ab" for i in (1, 2)]
    case.rows += [("N1", "a", "a3", "g3", 60), ("N1", "a", "a4", "g4", 60), ("N1", "b", "b5", "g5", 1)]
    case.hierarchies = {}
    case.spec |= {"dimensions": {"sector": {}}, "rules": {"p_percent": 70}}
    case.spec["protect"] = {"prior": False, "singletons": False}
    put(
        case.out,
        ("sector", "value", "status"),
        [("Total", 921, "published"), ("a", "", "suppressed"), ("b", "", "suppressed")],
    )
    assert case.audit("--json") == 1
    short = {each["attacker"] for each in findings(capsys) if each["figure"] == "sector=a" and each["short"]}
    assert "g1 and g2" in short and not short & {"outsider", "g1", "g2"}


def test_linked_tables_are_read_beside_and_attacked_together(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each table is safe by itself. Nobody is in zone u of S: so N less u is the one company of N in zone v."""
    case.head = ("region", "zone", "company", "turnover")
    case.rows = [("N", "u", f"a{i}", 10) for i in range(4)] + [("N", "v", "alone", 10)]
    case.rows += [("S", "v", f"b{i}", 10) for i in range(4)]
    case.hierarchies = {}
    case.spec = {
        "dimensions": {"region": {}}, "value": "turnover", "contributor": "company",
        "rules": {"min_contributors": 3},
    }  # fmt: skip
    regions = [("Total", 90, "published"), ("N", 50, "published"), ("S", 40, "published")]
    put(case.out, ("region", "value", "status"), regions)
    assert case.audit() == 0  # control
    case.spec["linked"] = [{"name": "zones", "dimensions": {"zone": {}}}]
    zones = [("Total", 90, "published"), ("u", 40, "published"), ("v", 50, "published")]
    put(case.folder / "table.csv.zones.csv", ("zone", "value", "status"), zones)
    capsys.readouterr()
    assert case.audit("--json") == 1
    (short,) = [each for each in findings(capsys) if each["short"] and each["attacker"] == "outsider"]
    assert (short["figure"], short["low"], short["high"]) == ("rows of region=N, zone=v", "10", "10")


def test_without_microdata_a_value_that_the_file_tells_is_held_to_a_tenth(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    put(
        case.out,
        ("region", "sector", "value", "status"),
        [
            ("Total", "Total", 1000, "published"), ("Total", "a", 100, "primary"),
            ("Total", "b", 5, "secondary"), ("Total", "c", 895, "published"),
        ],
    )  # fmt: skip
    case.spec["dimensions"]["region"] = {}
    case.write()
    assert case.audit("--json", microdata=False) == 1
    found = {each["figure"]: each for each in findings(capsys)}
    primary, secondary = found["region=Total, sector=a"], found["region=Total, sector=b"]
    assert (primary["low"], primary["high"], primary["level"], primary["short"]) == ("0", "105", "10", True)
    assert not secondary["short"]


# --- bad input ---------------------------------------------------------------------------------------------


def broken(case: Case, capsys: pytest.CaptureFixture[str], *, microdata: bool = True) -> str:
    capsys.readouterr()
    assert case.audit(microdata=microdata) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("broker: ") and said.err.count("\n") == 1
    return said.err


def changed(case: Case, cell: tuple[str, str], **fields: str) -> None:
    rows = [{**row, **fields} if (row["region"], row["sector"]) == cell else row for row in read(case.out)]
    put(case.out, list(rows[0]), [row.values() for row in rows])


@pytest.mark.parametrize("microdata", [True, False])
def test_figures_that_no_microdata_can_have_are_refused(
    microdata: bool, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.protect()
    changed(case, ("S", "a"), value="1")
    said = broken(case, capsys, microdata=microdata)
    assert "[contradiction]" in said
    assert not microdata or "region=S, sector=a is 1 in the table and 1230 in the microdata" in said


ROWS: dict[str, tuple[dict[str, str], str]] = {
    "an unknown status": ({"status": "safe"}, "column status, line 5: `safe` is none of"),
    "no value though published": ({"value": ""}, "column value, line 5"),
    "no number": ({"value": "many"}, "column value, line 5: `many`"),
    "a strange code": ({"region": "W"}, "column region, line 5: `W`"),
    "no code": ({"region": ""}, "column region, line 5"),
    "a cell twice": ({"region": "Total", "sector": "Total"}, "line 2"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_bad_row_of_the_table_is_named_with_its_line(
    kind: str, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    fields, said = ROWS[kind]
    case.protect()
    changed(case, ("N", "Total"), **fields)
    assert said in broken(case, capsys)


def test_a_linked_table_that_is_not_there_is_named(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.protect()
    case.spec["linked"] = [{"name": "zones", "dimensions": {"sector": {}}}]
    assert "table.csv.zones.csv" in broken(case, capsys)


def test_a_figure_of_a_cell_that_nobody_is_in_is_refused(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.protect()
    case.rows = [row for row in case.rows if row[:2] != ("S2", "b")]
    assert "region=S2, sector=b has a figure" in broken(case, capsys)

"""What can be wrong in the files of `broker protect`: each is a message that names the place, and no table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from table_files import Case, put


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def refused(case: Case, capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    case.out.write_text("of a run before")
    assert case.protect() == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("broker: ") and said.err.count("\n") == 1
    return said.err


def row(*cells: object) -> Callable[[Case], None]:
    return lambda case: case.rows.append(cells)


ROWS: dict[str, tuple[Callable[[Case], None], list[str]]] = {
    "NaN": (row("N1", "a", "x", "g", "NaN"), ["m.csv", "column turnover, line 45", "`NaN`", "finite"]),
    "infinite": (row("N1", "a", "x", "g", "inf"), ["column turnover, line 45", "`inf`", "finite"]),
    "no number": (row("N1", "a", "x", "g", "much"), ["column turnover, line 45", "`much`"]),
    "no value": (row("N1", "a", "x", "g", ""), ["column turnover, line 45", "empty"]),
    "a contributor in two holdings": (
        row("N1", "a", "N1a0", "other", 5), ["contributor N1a0", "g0 (line 2)", "other (line 45)"],
    ),
    "outside the hierarchy": (row("W1", "a", "x", "g", 5), ["column region, line 45", "`W1`", "hierarchy"]),
    "a margin as a row": (row("N1", "Total", "x", "g", 5), ["column sector, line 45", "`Total`"]),
    "no code": (row("", "a", "x", "g", 5), ["column region, line 45", "empty"]),
    "no contributor": (row("N1", "a", "", "g", 5), ["column company, line 45", "empty"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_a_bad_row_is_named_with_its_line(kind: str, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    change, named = ROWS[kind]
    change(case)
    said = refused(case, capsys)
    assert all(each in said for each in named), said
    assert not case.out.exists()


def test_a_negative_weight_is_named_with_its_line(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.head = (*case.head, "weight")
    case.rows = [(*row, 1) for row in case.rows]
    case.rows[3] = (*case.rows[3][:-1], -2)
    said = refused(case, capsys)
    assert "column weight, line 5" in said and "`-2`" in said and "[negative_weight]" in said


@pytest.mark.parametrize("column", ["region", "sector", "company", "group", "turnover"])
def test_a_missing_column_is_named(column: str, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.head = tuple("other" if name == column else name for name in case.head)
    said = refused(case, capsys)
    assert "m.csv" in said and column in said and "[missing_column]" in said


@pytest.mark.parametrize("rows", [[], None])
def test_microdata_without_rows_are_refused(
    rows: list[object] | None, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.rows = []
    if rows is None:
        case.head = ()
    assert "[empty_file]" in refused(case, capsys)


TREES: dict[str, tuple[Callable[[dict[str, str]], object], list[str]]] = {
    "a cycle": (lambda tree: tree.update(N="N1"), ["regions.csv", "cycle", "`N`", "`N1`"]),
    "an orphan": (lambda tree: tree.pop("N"), ["regions.csv", "`N`", "add a row N,Total"]),
    "the root below something": (lambda tree: tree.update(Total="N"), ["`Total` has a parent"]),
    "no parent": (lambda tree: tree.update(N=""), ["`N`"]),
}


@pytest.mark.parametrize("kind", TREES)
def test_a_hierarchy_that_is_no_tree_is_refused_by_name(
    kind: str, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    change, named = TREES[kind]
    change(case.hierarchies["regions"])
    said = refused(case, capsys)
    assert all(each in said for each in named), said
    assert "[bad_hierarchy]" in said


def test_a_double_parent_is_refused_by_name(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.write()
    case.hierarchies = {}
    text = (case.folder / "regions.csv").read_text()
    (case.folder / "regions.csv").write_text(text + "N1,S\n")
    said = refused(case, capsys)
    assert "`N1` has two parents, `N` and `S`" in said


def test_a_hierarchy_file_that_is_not_there_is_named(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.spec["dimensions"]["region"]["hierarchy"] = "elsewhere.csv"
    assert "elsewhere.csv" in refused(case, capsys)


def test_paths_in_a_spec_are_relative_to_it(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "h").mkdir()
    put(tmp_path / "h" / "r.csv", ("child", "parent"), case.hierarchies["regions"].items())
    case.hierarchies = {}
    case.spec["dimensions"]["region"]["hierarchy"] = "h/r.csv"
    monkeypatch.chdir("/")
    assert case.protect() == 0


def test_an_unknown_field_of_the_spec_is_refused_with_the_nearest(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.spec["rules"]["min_contributers"] = 3
    said = refused(case, capsys)
    assert "s.yaml" in said and "did you mean `min_contributors`" in said and "[unknown_field]" in said


def test_a_spec_without_any_rule_is_refused(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    del case.spec["rules"]
    assert "[empty_rule]" in refused(case, capsys, status=3)


def test_a_result_never_overwrites_what_it_is_made_from(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.write()
    for name in ("m.csv", "s.yaml", "regions.csv"):
        before = (case.folder / name).read_bytes()
        files = ["protect", str(case.folder / "m.csv"), "--spec", str(case.folder / "s.yaml")]
        from broker import cli

        assert cli.run([*files, "--out", str(case.folder / ".." / case.folder.name / name)]) == 2
        assert "[overwrites_input]" in capsys.readouterr().err
        assert (case.folder / name).read_bytes() == before


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.write()
    (case.folder / "file").write_text("")
    from broker import cli

    files = ["protect", str(case.folder / "m.csv"), "--spec", str(case.folder / "s.yaml")]
    assert cli.run([*files, "--out", str(case.folder / "file" / "t.csv")]) == 2
    assert "[unwritable_folder]" in capsys.readouterr().err

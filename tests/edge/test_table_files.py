"""Whatever wrote a table, it reads the same: empty is none, and a bad line costs nothing but itself."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest

from broker.core.errors import InputError
from broker.edge.files import (
    CONSENT_COLUMNS,
    SITE_COLUMNS,
    read_areas,
    read_consent,
    read_readings,
    read_sites,
)
from broker.edge.table_files import read_table

HEAD = "partner,delivery_point,timestamp,value,quality,remark"
GOOD = [f"a,p{n},2026-01-01T00:00:00Z,{n},measured,x" for n in range(9)]


def csv_file(folder: Path, *lines: str, end: str = "\n") -> Path:
    path = folder / "t.csv"
    path.write_bytes(end.join(lines).encode())
    return path


def values(path: Path) -> tuple[list[int], dict[str, int], int]:
    """The good values, the reasons of the bad rows, and how many rows were read."""
    found = read_readings(path, unit="Wh", kind="interval", base="P1D", timezone="UTC")
    return found.frames["a"]["value"].to_list(), found.quarantined, found.read


# -- empty is none --------------------------------------------------------------------------------------


def test_a_quoted_empty_field_is_none_in_every_table(tmp_path: Path) -> None:
    tables = {
        "r": [HEAD.split(","), ["a", "p", "2026-01-01T00:00:00Z", "1", "", ""]],
        "s": [
            [*SITE_COLUMNS, "valid_from", "valid_to", "register_size"],
            ["a", "h", "p", "t", "K", " ", "", "", ""],
        ],
        "c": [[*CONSENT_COLUMNS], ["p", "x", "", "", ""]],
        "a": [["area", "parent", "level"], ["E", "", "epci"]],
    }  # fmt: skip
    for kind in ("csv", "parquet"):
        for name, (header, *rows) in tables.items():
            if kind == "parquet":
                frame = pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")
                frame.write_parquet(tmp_path / f"{name}.parquet")
            else:
                with (tmp_path / f"{name}.csv").open("w", newline="") as file:
                    csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *rows])
        found = read_readings(
            tmp_path / f"r.{kind}", unit="Wh", kind="interval", base="P1D", timezone="UTC"
        ).frames["a"]
        assert found["quality"].to_list() == ["measured"]
        site = read_sites(tmp_path / f"s.{kind}").rows["a"].row(0, named=True)
        assert (site["valid_from"], site["valid_to"], site["segment"], site["register_size"]) == (
            None,
            None,
            "",
            None,
        )
        assert read_consent(tmp_path / f"c.{kind}").row(0) == ("p", "x", None, None, None)
        assert read_areas(tmp_path / f"a.{kind}").row(0) == ("E", None, "epci")


def test_spaces_around_a_field_do_not_make_another_name(tmp_path: Path) -> None:
    path = csv_file(tmp_path, HEAD, " a ,p ,2026-01-01T00:00:00Z, 7, measured ,x")
    assert values(path) == ([7], {}, 1)


# -- a bad line costs nothing but itself ------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        '"a,p0,garbage',
        'a,"p0,garbage',
        'a,p0,"2026-01-01T00:00:00Z,1,measured,x',
        'a,"p0"x,2026-01-01T00:00:00Z,1,measured,x',
        "a,p0,2026-01-01T00:00:00Z,1,5,measured,x",
    ],
)
@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_line_that_is_no_row_is_one_bad_row_wherever_it_stands(
    bad: str, place: int, tmp_path: Path
) -> None:
    lines = [*GOOD[:place], bad, *GOOD[place:]]
    for end in ("\n", "\r\n"):
        assert values(csv_file(tmp_path, HEAD, *lines, end=end)) == ([*range(9)], {"undecodable": 1}, 10)


def test_two_stray_quotes_do_not_swallow_what_is_between_them(tmp_path: Path) -> None:
    for first, second in (('"a,p0,garbage', '"a,p1,garbage'), ('"a,p0,garbage', 'a,p1,garbage"')):
        path = csv_file(tmp_path, HEAD, *GOOD[:3], first, *GOOD[3:6], second, *GOOD[6:])
        found, quarantined, read = values(path)
        assert (found, sum(quarantined.values()), read) == ([*range(9)], 2, 11)


def test_a_stray_quote_among_quoted_lines_is_one_bad_row(tmp_path: Path) -> None:
    quoted = [",".join(f'"{field}"' for field in line.split(",")) for line in GOOD]
    path = csv_file(tmp_path, HEAD, *quoted[:3], '"a","p0,garbage', *quoted[3:])
    assert values(path) == ([*range(9)], {"undecodable": 1}, 10)


def test_a_line_break_inside_a_whole_field_is_part_of_it(tmp_path: Path) -> None:
    path = csv_file(tmp_path, HEAD, GOOD[0], GOOD[1][:-1] + '"two\n\n""lines"""', *GOOD[2:])
    assert values(path) == ([*range(9)], {}, 9)
    remarks = read_table(path, ("remark",)).frame["remark"]
    assert remarks.to_list()[:3] == ["x", 'two\n\n"lines"', "x"]


def test_empty_lines_are_no_readings(tmp_path: Path) -> None:
    lines = ["", HEAD, "", *GOOD[:5], "", "  ", *GOOD[5:], "", ""]
    for end in ("\n", "\r\n"):
        assert values(csv_file(tmp_path, *lines, end=end)) == ([*range(9)], {}, 9)
    assert values(csv_file(tmp_path, *lines, ",,,,,"))[1:] == ({"undecodable": 1}, 10)


def test_a_table_that_decides_who_counts_names_the_line_as_it_is_in_the_file(tmp_path: Path) -> None:
    head = "delivery_point,purpose,granted_from,expires_at,withdrawn_at"
    good = "p,x,2026-01-01T00:00:00Z,,"
    with pytest.raises(InputError, match="column withdrawn_at, line 6"):
        read_consent(csv_file(tmp_path, head, good, "", "", good, "p,x,,,soon"))
    for bad in ('"p,x,,,', good + ",more"):
        with pytest.raises(InputError, match="line 3 has more fields") as caught:
            read_consent(csv_file(tmp_path, head, good, bad, good))
        assert caught.value.reason == "unreadable_file"

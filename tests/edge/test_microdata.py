"""Microdata are read whole and exactly, or refused with line and offender."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from broker.core.errors import InputError
from broker.core.static.hierarchy import Hierarchy
from broker.core.static.microdata import Microdata, amount_text
from broker.core.static.spec import load
from broker.edge.microdata import read_hierarchy, read_microdata

SPEC = "dimensions: {region: {hierarchy: h.csv}, sector: }\nrules: {min_contributors: 3}\n"
HEAD = "region,sector,contributor,holding,weight,value"
GOOD = ["N,a,c1,g1,1,10.5", "S,b,c2,g2,2,-0.25", "N,a,c1,g1,1.5,1e2"]
REGIONS = Hierarchy.flat(["N", "S"])


def read(folder: Path, *lines: str, head: str = HEAD, spec: str = SPEC) -> Microdata:
    path = folder / "m.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return read_microdata(path, load(spec, "s.yaml"), {"region": [REGIONS]})


def test_totals_are_value_times_weight_in_their_last_decimal(tmp_path: Path) -> None:
    found = read(tmp_path, *GOOD)
    assert (found.places, found.weight_places) == (3, 1)
    assert found.rows["value"].to_list() == [10_500, -500, 150_000]
    assert found.rows["weight"].to_list() == [10, 20, 15]
    assert [amount_text(value, found.places) for value in found.rows["value"]] == ["10.5", "-0.5", "150"]
    assert found.rows["contributor"].to_list() == [0, 1, 0]
    assert [found.holdings[i] for i in found.rows["holding"]] == ["g1", "g2", "g1"]


def test_without_value_and_weight_each_row_counts_one(tmp_path: Path) -> None:
    found = read(tmp_path, "N,a,c1", "S,b,c1", head="region,sector,contributor")
    assert (found.rows["value"].to_list(), found.rows["weight"].to_list(), found.places) == (
        [1, 1],
        [1, 1],
        0,
    )


def test_where_nobody_is_named_every_row_is_a_contributor_and_a_holding(tmp_path: Path) -> None:
    found = read(tmp_path, "N,a,5", "N,a,5", "S,b,5", head="region,sector,value")
    assert found.rows["contributor"].n_unique() == found.rows["holding"].n_unique() == 3
    assert found.holdings == ["row 2", "row 3", "row 4"]


def test_where_no_holding_is_named_every_contributor_is_one(tmp_path: Path) -> None:
    found = read(tmp_path, "N,a,x", "S,b,x", "S,b,y", head="region,sector,contributor")
    assert found.holdings == ["x", "y"]
    assert found.rows["holding"].to_list() == [0, 0, 1]


def test_roles_may_have_other_columns(tmp_path: Path) -> None:
    spec = SPEC + "value: turnover\ncontributor: company\nholding: group\nweight: w\n"
    head = "w,group,company,turnover,sector,region,value"
    found = read(tmp_path, "3,g,c,2,a,N,77", head=head, spec=spec)
    assert found.rows["value"].to_list() == [6]
    assert found.holdings == ["g"]


def test_a_parquet_file_reads_the_same(tmp_path: Path) -> None:
    text = read(tmp_path, *GOOD)
    rows = [line.split(",") for line in GOOD]
    frame = pl.DataFrame(rows, schema=HEAD.split(","), orient="row").with_columns(
        pl.col("value", "weight").cast(pl.Float64)
    )
    frame.write_parquet(tmp_path / "m.parquet")
    found = read_microdata(tmp_path / "m.parquet", load(SPEC, "s.yaml"), {"region": [REGIONS]})
    assert found.rows.equals(text.rows)


BAD: dict[str, tuple[str, str, list[str]]] = {
    "not a number": ("N,a,c9,g9,1,NaN", "bad_row", ["column value, line 5", "`NaN`", "finite"]),
    "infinite": ("N,a,c9,g9,1,-inf", "bad_row", ["column value, line 5", "`-inf`", "finite"]),
    "a word": ("N,a,c9,g9,1,many", "bad_row", ["column value, line 5", "`many`", "number"]),
    "a decimal comma": ('N,a,c9,g9,1,"1,5"', "bad_row", ["column value, line 5", "`1,5`", "point"]),
    "too many decimals": ("N,a,c9,g9,1,0.1234567890123", "bad_row", ["column value, line 5", "decimals"]),
    "too many digits": ("N,a,c9,g9,1,1234567890123456789", "bad_row", ["column value, line 5", "digits"]),
    "no value": ("N,a,c9,g9,1,", "bad_row", ["column value, line 5", "empty"]),
    "negative weight": ("N,a,c9,g9,-1,5", "negative_weight", ["column weight, line 5", "`-1`"]),
    "infinite weight": ("N,a,c9,g9,inf,5", "bad_row", ["column weight, line 5", "`inf`"]),
    "no weight": ("N,a,c9,g9,,5", "bad_row", ["column weight, line 5", "empty"]),
    "no contributor": ("N,a,,g9,1,5", "bad_row", ["column contributor, line 5", "empty"]),
    "no holding": ("N,a,c9,,1,5", "bad_row", ["column holding, line 5", "empty"]),
    "a contributor in two holdings": ("N,a,c1,g9,1,5", "two_holdings", ["c1", "g1 (line 2)", "g9 (line 5)"]),
    "outside the hierarchy": ("W,a,c9,g9,1,5", "not_in_hierarchy", ["column region, line 5", "`W`"]),
    "the margin": ("N,Total,c9,g9,1,5", "not_in_hierarchy", ["column sector, line 5", "`Total`"]),
    "no code": ("N,,c9,g9,1,5", "bad_row", ["column sector, line 5", "empty"]),
    "too large a sum": ("N,a,c9,g9,100000,123456789012345", "too_large", ["64 bits"]),
    "too many fields": ("N,a,c9,g9,1,5,6", "unreadable_file", ["line 5"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_refuses_the_file_with_its_line_and_what_stands_there(kind: str, tmp_path: Path) -> None:
    row, reason, named = BAD[kind]
    with pytest.raises(InputError, match=reason) as refused:
        read(tmp_path, *GOOD, row)
    assert all(each in str(refused.value) for each in ["m.csv", *named]), str(refused.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing_column") as refused:
        read(tmp_path, "N,c1", head="region,contributor", spec=SPEC + "value: turnover\n")
    assert "sector, turnover" in str(refused.value)


@pytest.mark.parametrize("text", ["", "\n\n", HEAD + "\n"])
def test_an_empty_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match="empty_file"):
        read_microdata(tmp_path / "m.csv", load(SPEC, "s.yaml"), {})


def test_a_hierarchy_file_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("child,parent\nN,Total\nN1,N\n")
    assert read_hierarchy(path).codes == ("Total", "N", "N1")
    path.write_text("child,parent\nN,Total\nN1,M\n")
    with pytest.raises(InputError, match="bad_hierarchy") as refused:
        read_hierarchy(path)
    assert "`M`" in str(refused.value) and "h.csv" in str(refused.value)
    path.write_text("code,above\nN,Total\n")
    with pytest.raises(InputError, match="child,parent"):
        read_hierarchy(path)

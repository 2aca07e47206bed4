"""An areas file is taken whole and consistent, or refused with the offender's name."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.areas import AreaTree
from broker.core.errors import InputError

ROWS = [
    ("35", None, "epci"),
    ("36", "", "epci"),
    ("35001", "35", "commune"),
    ("35002", "35", "commune"),
    ("36001", "36", "commune"),
    ("350010101", "35001", "iris"),
    ("350010102", "35001", "iris"),
    ("01004", "36001", "iris"),
]


def tree(rows: list[tuple[str, str | None, str]]) -> AreaTree:
    frame = pl.DataFrame(rows, schema=["area", "parent", "level"], orient="row", infer_schema_length=None)
    return AreaTree.from_rows("iris-2026", frame)


def test_every_area_knows_itself_and_all_above() -> None:
    areas = tree(ROWS)
    found = areas.ancestors.filter(pl.col("area") == "350010102").rows()
    assert found == [
        ("350010102", "iris", "350010102"),
        ("350010102", "commune", "35001"),
        ("350010102", "epci", "35"),
    ]
    assert areas.ancestors.schema == {"area": pl.String, "level": pl.String, "ancestor": pl.String}
    assert areas.ancestors["area"].is_sorted()
    assert (areas.level("35001"), areas.parent("35001"), areas.parent("35")) == ("commune", "35", None)
    assert areas.codes == sorted(area for area, _, _ in ROWS)


def test_groups_are_sorted_codes_and_areas_above_them_have_none() -> None:
    areas = tree(ROWS)
    assert areas.groups("commune") == ["35001", "35002", "36001"]
    groups = dict(areas.group_of("commune").rows())
    assert groups == {
        "01004": "36001",
        "350010101": "35001",
        "350010102": "35001",
        "35001": "35001",
        "35002": "35002",
        "36001": "36001",
    }
    assert areas.outside("iris", "epci") == []
    assert areas.outside("epci", "commune") == ["35", "36"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("99", "98", "iris"), "99 → 98"),
        (("35001", "35", "commune"), "`35001` occurs more than once"),
        (("", "35", "iris"), "no area code"),
        (("99", "35", ""), "`99` has no level"),
        (("99", "99", "iris"), "cycle"),
        (("99", "350010101", "commune"), "two areas of level `commune`"),
    ],
)
def test_a_bad_row_is_named(row: tuple[str, str, str], said: str) -> None:
    with pytest.raises(InputError, match="bad_areas") as caught:
        tree([*ROWS, row])
    assert said in caught.value.what


def test_a_cycle_of_several_areas_is_named() -> None:
    with pytest.raises(InputError, match="cycle"):
        tree([("a", "b", "x"), ("b", "c", "y"), ("c", "a", "z")])


def test_missing_columns_and_an_empty_file_are_refused() -> None:
    with pytest.raises(InputError, match="column level missing"):
        AreaTree.from_rows("h", pl.DataFrame({"area": ["1"], "parent": [None]}))
    with pytest.raises(InputError, match="no area at all"):
        tree([])


def test_unknown_areas_and_levels_are_named() -> None:
    areas = tree(ROWS)
    for call in (areas.level, areas.parent):
        with pytest.raises(InputError, match="area_not_in_hierarchy") as caught:
            call("1004")
        assert "`1004`" in caught.value.what
    with pytest.raises(InputError, match="no level `region`"):
        areas.groups("region")
    assert "01004" in areas
    assert "1004" not in areas


@settings(max_examples=30, deadline=None)
@given(st.permutations(ROWS))
def test_the_digest_does_not_depend_on_the_order_of_rows(rows: list[Any]) -> None:
    assert tree(rows).digest() == tree(ROWS).digest()
    assert tree(rows).ancestors.equals(tree(ROWS).ancestors)


def test_every_change_of_a_row_changes_the_digest() -> None:
    moved = [("350010102", "35002", "iris") if row[0] == "350010102" else row for row in ROWS]
    renamed = [("350010103", "35001", "iris") if row[0] == "350010102" else row for row in ROWS]
    releveled = [(a, p, "quarter" if level == "iris" else level) for a, p, level in ROWS]
    digests = {tree(rows).digest() for rows in (ROWS, moved, renamed, releveled, ROWS[:-1])}
    digests.add(
        AreaTree.from_rows(
            "iris-2025", pl.DataFrame(ROWS, schema=["area", "parent", "level"], orient="row")
        ).digest()
    )
    assert len(digests) == 6
    assert all(digest.startswith("sha256:") and len(digest) == 71 for digest in digests)

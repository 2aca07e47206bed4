"""The table of consent rules, line by line."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from admission_world import consent_table

from broker.core.consent import OUTCOMES, Basis, ConsentTable

WINDOW, GRANT, EXPIRY = 100, 100, 200


def outcome(
    table: ConsentTable, basis: Basis, start: int, end: int | None = None, *, window: int = WINDOW
) -> str:
    state = table.states(pl.Series(["other", "p"]), "planning")
    point, last = np.array([1]), np.array([start if end is None else end])
    return OUTCOMES[state.decide(basis, point, np.array([start]), last, np.array([window]))[0]]


def state(granted: int | None, expires: int | None = None, withdrawn: int | None = None) -> ConsentTable:
    return consent_table(("p", "planning", granted, expires, withdrawn), ("q", "planning", 0, None, 1))


def test_without_a_record_consent_counts_for_nothing_and_public_task_counts() -> None:
    for table in (ConsentTable.empty(), consent_table(("p", "other-purpose", 0, None, None)), state(None)):
        assert outcome(table, "consent", 150, 160) == "no_basis"
        assert outcome(table, "public_task", 150, 160) == ""


@pytest.mark.parametrize(
    ("granted", "expected"), [(WINDOW - 1, ""), (WINDOW, ""), (WINDOW + 1, "not_yet_granted")]
)
def test_a_grant_inside_the_window_counts_from_the_next(granted: int, expected: str) -> None:
    assert outcome(state(granted), "consent", 150, 160) == expected
    assert outcome(state(granted), "public_task", 150, 160) == ""


def test_an_opening_value_from_before_the_grant_does_not_count() -> None:
    assert outcome(state(GRANT), "consent", GRANT - 1) == "not_yet_granted"
    assert outcome(state(GRANT), "consent", GRANT) == ""


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (EXPIRY - 10, EXPIRY, ""),
        (EXPIRY - 10, EXPIRY + 1, "expired"),
        (EXPIRY, EXPIRY + 10, "expired"),
        (EXPIRY - 1, None, ""),
        (EXPIRY, None, "expired"),
    ],
)
def test_an_expiry_bounds_readings_under_consent_only(start: int, end: int | None, expected: str) -> None:
    assert outcome(state(GRANT, EXPIRY), "consent", start, end) == expected
    assert outcome(state(GRANT, EXPIRY), "public_task", start, end) == ""


@pytest.mark.parametrize("basis", ["consent", "public_task"])
def test_a_withdrawal_or_objection_voids_what_came_before_it_too(basis: Basis) -> None:
    assert outcome(state(0, None, 10_000), basis, 150, 160) == "withdrawn"
    assert outcome(state(None, None, 10_000), basis, 150, 160) == "withdrawn"


def test_a_withdrawal_after_the_cut_is_not_known_yet() -> None:
    row = ("p", "planning", 0, None, 10_000)
    assert outcome(consent_table(row, cut=9_999), "consent", 150, 160) == ""
    assert outcome(consent_table(row, cut=10_000), "consent", 150, 160) == "withdrawn"


def test_of_several_records_the_strictest_holds() -> None:
    early, late = ("p", "planning", 10, 300, None), ("p", "planning", 120, 180, None)
    for rows in ([early, late], [late, early]):
        assert outcome(consent_table(*rows), "consent", 150, 160) == "not_yet_granted"
        assert outcome(consent_table(*rows), "consent", 170, 190, window=130) == "expired"
    gone = ("p", "planning", 10, None, 50)
    assert outcome(consent_table(early, gone), "consent", 150, 160) == "withdrawn"
    assert (
        outcome(consent_table(early, ("p", "planning", None, None, None)), "consent", 150, 160) == "no_basis"
    )

"""Numbers and times in text become the integers that exact decimals and the standard library say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.edge.text_columns import UNITS, exact_integers, instant, instants

LIMIT = 10**18


def expected(text: str, power: int) -> int | str:
    """By the digits and exponent of Python's decimal, which never rounds what it only holds."""
    value = Decimal(text)
    if not value.is_finite():
        return "not_finite"
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    number = int("".join(map(str, digits)))
    if number == 0:
        return 0
    while number % 10 == 0:
        number, exponent = number // 10, exponent + 1
    shift = exponent + power
    if shift < 0:
        return "inexact_value"
    if len(str(number)) + shift > 18:
        return "out_of_bounds"
    return (-1 if sign else 1) * number * 10**shift


def got(text: str, power: int) -> int | str:
    value, reason = exact_integers(pl.Series([text]), power).row(0)
    assert (value is None) != (reason is None)
    found: int | str = reason if value is None else value
    return found


numbers = st.one_of(
    st.from_regex(r"[+-]?[0-9]{1,22}(\.[0-9]{0,22})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.decimals(allow_nan=False, allow_infinity=False, places=4).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300).map(repr),
)


@settings(deadline=None)
@given(text=numbers, power=st.sampled_from([0, 3, 6, 9]))
def test_a_number_is_exact_or_says_why_not(text: str, power: int) -> None:
    assert got(text, power) == expected(text, power)


@settings(deadline=None)
@given(texts=st.lists(st.one_of(numbers, st.text(max_size=8), st.none()), max_size=20))
def test_rows_keep_their_number_and_order(texts: list[str | None]) -> None:
    column = exact_integers(pl.Series(texts, dtype=pl.String), 3)
    alone = [exact_integers(pl.Series([t], dtype=pl.String), 3).row(0) for t in texts]
    assert column.rows() == alone
    assert column.select((pl.col("value").is_null() != pl.col("reason").is_null()).all()).item() in (
        True,
        None,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "not_finite"),
        ("-inf", "not_finite"),
        ("Infinity", "not_finite"),
        ("", "bad_value"),
        ("-", "bad_value"),
        (".", "bad_value"),
        ("e5", "bad_value"),
        ("12 kWh", "bad_value"),
        ("1,5", "bad_value"),
        ("1_000", "bad_value"),
        ("0x10", "bad_value"),
        ("1.2.3", "bad_value"),
        ("\u0661", "bad_value"),
        ("0.0005", "inexact_value"),
        ("1e99", "out_of_bounds"),
        ("1e9999", "out_of_bounds"),
    ],
)
def test_what_is_no_whole_number_says_why(text: str, reason: str) -> None:
    assert got(text, 3) == reason


def test_kilowatt_hours_become_watt_hours_without_a_float() -> None:
    smallest, power = UNITS["kWh"]
    assert smallest == "Wh"
    found = exact_integers(pl.Series(["1.5", "0.1", "-2.345", "1e-3", "70368744177.665"]), power)
    assert found["value"].to_list() == [1500, 100, -2345, 1, 70368744177665]


def test_a_decimal_comma_is_read_where_it_is_asked_for() -> None:
    found = exact_integers(pl.Series(["1,5", "1.5", "7", ",25"]), 3, ",")
    assert found["value"].to_list() == [1500, None, 7000, 250]


moments = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1))
offsets = st.integers(-14 * 60, 14 * 60)


@settings(deadline=None)
@given(moment=moments, minutes=offsets, form=st.integers(0, 7))
def test_a_time_with_an_offset_is_the_instant_that_it_names(
    moment: datetime, minutes: int, form: int
) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    sign, size = ("-", -minutes) if minutes < 0 else ("+", minutes)
    offset = f"{sign}{size // 60:02d}:{size % 60:02d}"
    whole, exact = aware.replace(microsecond=0), aware
    text, meant = [
        (f"{whole:%Y-%m-%dT%H:%M:%S}{offset}", whole),
        (f"{whole:%Y-%m-%d %H:%M:%S}{offset}", whole),
        (f"{whole:%Y-%m-%dT%H:%M:%S}{offset.replace(':', '')}", whole),
        (f"{exact:%Y-%m-%dT%H:%M:%S.%f}{offset}", exact),
        (f"{whole:%Y%m%dT%H%M%S}{offset.replace(':', '')}", whole),
        (f"{whole:%Y-%m-%dT%H:%M}{offset}", whole.replace(second=0)),
        (f"{whole.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", whole),
        (f"  {whole.astimezone(UTC):%Y-%m-%dt%H:%M:%Sz} ", whole),
    ][form]
    assert instant(text) == (meant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-01-05T06Z", "2026-01-05T06:00:00+00:00"),
        ("2026-01-05T06+01:00", "2026-01-05T06:00:00+01:00"),
        ("2026-01-05T06-0530", "2026-01-05T06:00:00-05:30"),
        ("20260105T06Z", "2026-01-05T06:00:00+00:00"),
        ("20260105T06+01", "2026-01-05T06:00:00+01:00"),
        ("20260105T0615-0530", "2026-01-05T06:15:00-05:30"),
        ("20260105T061530.25Z", "2026-01-05T06:15:30.250+00:00"),
        ("20260105T06:15:30Z", "2026-01-05T06:15:30+00:00"),
        ("2026-01-05T06:15:30,5Z", "2026-01-05T06:15:30.500+00:00"),
        ("2026-01-05T24:00:00Z", "2026-01-06T00:00:00+00:00"),
        ("2026-01-05T24:00:00.000+01:00", "2026-01-06T00:00:00+01:00"),
        ("2026-12-31T24:00+01:00", "2027-01-01T00:00:00+01:00"),
        ("20260105T24Z", "2026-01-06T00:00:00+00:00"),
    ],
)
def test_every_usual_form_of_iso_8601_is_read(text: str, meant: str) -> None:
    expected = int(datetime.fromisoformat(meant).timestamp() * 1000)
    assert instants(pl.Series([text, "x", text])).to_list() == [expected, None, expected]


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-05T24:00:01Z",
        "2026-01-05T24:00:00.5Z",
        "2026-01-05T24:30Z",
        "2026-01-05T00.5Z",
        "2026-01-05T00:30.5Z",
        "2026-01-05TZ",
        "20260105Z",
        "2026-01-01T00:00:00",
        "2026-01-01",
        "2026-02-30T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:00 Europe/Paris",
        "01/02/2026 00:00:00+01:00",
        "1767222000",
        "garbage",
        "",
    ],
)
def test_a_time_without_an_offset_or_sense_is_none(text: str) -> None:
    assert instant(text) is None


def test_unusual_times_among_usual_ones_keep_their_places() -> None:
    texts = ["2026-01-01T00:00:00Z", "x", None, "20260101T000000Z", "2026-01-01 00:00:01Z"]
    first = 1_767_225_600_000
    assert instants(pl.Series(texts)).to_list() == [first, None, None, first, first + 1000]

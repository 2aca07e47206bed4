"""Files of a dry run become the core's frames; what cannot is counted, or refuses the file by its line."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from broker.core.errors import InputError
from broker.core.readings import SCHEMA
from broker.edge.files import ReadingsFile, read_areas, read_consent, read_readings, read_sites

PARIS = "Europe/Paris"
HEAD = "partner,delivery_point,timestamp,value,quality"


def write(folder: Path, text: str | bytes, name: str = "readings.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, *, unit: str = "Wh", kind: str = "interval", base: str = "P1D") -> ReadingsFile:
    return read_readings(path, unit=unit, kind=kind, base=base, timezone=PARIS)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def lengths(found: ReadingsFile, partner: str = "a") -> list[int]:
    """Of each interval, in minutes, in the order of the file."""
    return [
        (end - start) // 60_000 for start, end in found.frames[partner].select("start", "end").iter_rows()
    ]


def rows(*lines: str, head: str = HEAD) -> str:
    return "\n".join([head, *lines]) + "\n"


# -- readings -----------------------------------------------------------------------------------------


def test_every_row_comes_out_once_as_a_reading_or_with_its_reason(tmp_path: Path) -> None:
    text = rows(
        "a,p1,2026-01-01T00:00:00+01:00,1.5,measured",
        "b,p2,2026-01-01T00:00:00Z,-2,estimated",
        "a,p1,2026-01-02T00:00:00,1,measured",  # no offset
        "a,p1,2026-01-02T00:00:00+01:00,NaN,measured",
        "a,p1,2026-01-02T00:00:00+01:00,inf,measured",
        "a,p1,2026-01-02T00:00:00+01:00,abc,measured",
        "a,p1,2026-01-02T00:00:00+01:00,0.0001,measured",
        "a,p1,2026-01-02T00:00:00+01:00,1e30,measured",
        "a,,2026-01-02T00:00:00+01:00,1,measured",
        ",p1,2026-01-02T00:00:00+01:00,1,measured",
        "a,p1",
        "a,p1,2026-01-03T00:00:00+01:00,3,",
    )
    found = read(write(tmp_path, text), unit="kWh")
    assert found.read == 12
    assert found.quarantined == {
        "bad_timestamp": 2,
        "bad_value": 1,
        "inexact_value": 1,
        "not_finite": 2,
        "out_of_bounds": 1,
        "undecodable": 2,
    }
    a, b = found.frames["a"], found.frames["b"]
    assert dict(a.schema) == dict(SCHEMA)
    assert a.select("value", "quality", "offset").rows() == [(1500, "measured", 0), (3000, "measured", 11)]
    assert b.select("start", "value", "quality").rows() == [
        (ms("2026-01-01T00:00:00+00:00"), -2000, "estimated")
    ]
    assert sorted([*found.bad["offset"], *a["offset"], *b["offset"]]) == list(range(12))


def test_a_row_with_too_many_fields_is_one_bad_row(tmp_path: Path) -> None:
    """A decimal comma must not turn 1,5 into 1."""
    good = "a,p1,2026-01-01T00:00:00+01:00,7"
    text = rows(good, "a,p1,2026-01-02T00:00:00+01:00,1,5", good, head=HEAD.removesuffix(",quality"))
    found = read(write(tmp_path, text))
    assert found.quarantined == {"undecodable": 1}
    assert found.frames["a"]["value"].to_list() == [7, 7]
    assert found.frames["a"]["offset"].to_list() == [0, 2]


def test_bytes_that_are_no_text_spoil_their_row_only(tmp_path: Path) -> None:
    text = rows("a,p1,2026-01-01T00:00:00+01:00,7,measured").encode()
    found = read(write(tmp_path, text + b"a,p1,\xff\xfe,7,measured\n"))
    assert (found.read, found.quarantined, len(found.frames["a"])) == (2, {"bad_timestamp": 1}, 1)


def test_without_a_quality_column_all_is_measured_and_other_columns_are_ignored(tmp_path: Path) -> None:
    head = "\ufeffvalue,timestamp,remark,delivery_point,partner"
    text = "\r\n".join([head, '7,2026-01-01T00:00:00Z,"x, y",p1,a', ""])
    found = read(write(tmp_path, text))
    assert found.frames["a"].select("delivery_point", "value", "quality").rows() == [("p1", 7, "measured")]


def test_a_header_alone_is_a_file_without_readings(tmp_path: Path) -> None:
    found = read(write(tmp_path, HEAD))
    assert (found.read, found.frames, found.quarantined) == (0, {}, {})


def test_parquet_reads_like_csv_whatever_its_column_types(tmp_path: Path) -> None:
    at = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), None]
    typed = pl.DataFrame(
        {
            "partner": ["a"] * 3,
            "delivery_point": ["p1", "p1", "p2"],
            "timestamp": pl.Series(at, dtype=pl.Datetime("us", "Europe/Paris")),
            "value": [0.1, 2.5, float("nan")],
        }
    )
    typed.write_parquet(tmp_path / "r.parquet")
    typed.with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%:z")).write_csv(tmp_path / "r.csv")
    for unit in ("kWh", "Wh"):
        one, other = (read(tmp_path / name, unit=unit) for name in ("r.parquet", "r.csv"))
        assert one.bad.equals(other.bad)
        assert one.frames.keys() == other.frames.keys()
        assert all(one.frames[name].equals(other.frames[name]) for name in one.frames)
    assert read(tmp_path / "r.parquet", unit="kWh").frames["a"]["value"].to_list() == [100, 2500]


def test_times_of_parquet_without_a_zone_are_no_times(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"partner": ["a"], "delivery_point": ["p"], "timestamp": [datetime(2026, 1, 1)], "value": [1]}
    )
    frame.write_parquet(tmp_path / "r.parquet")
    assert read(tmp_path / "r.parquet").quarantined == {"bad_timestamp": 1}


# -- how long an interval lasts -----------------------------------------------------------------------


def series(start: str, step: timedelta, count: int, partner: str = "a", point: str = "p1") -> list[str]:
    at = datetime.fromisoformat(start)
    return [f"{partner},{point},{(at + n * step).isoformat()},1,measured" for n in range(count)]


def test_an_interval_lasts_as_long_as_the_most_frequent_gap_of_its_partner(tmp_path: Path) -> None:
    hourly = series("2026-01-01T00:00:00+01:00", timedelta(hours=1), 6)
    del hourly[3]  # a missing reading makes no interval longer
    half = series("2026-01-01T00:00:00+01:00", timedelta(minutes=30), 3, "b")
    found = read(write(tmp_path, rows(*hourly, *half)))
    assert lengths(found) == [60] * 5
    assert lengths(found, "b") == [30] * 3


def test_equally_frequent_gaps_mean_the_shorter_and_order_and_repeats_do_not_matter(tmp_path: Path) -> None:
    lines = [f"a,p1,2026-01-01T{hour:02d}:00:00Z,1,measured" for hour in (7, 0, 1, 3, 6, 0, 1)]
    # gaps 1, 2, 3, 1 -> with p2: 2
    lines += [f"a,p2,2026-01-01T{hour:02d}:00:00Z,1,measured" for hour in (2, 0)]
    assert lengths(read(write(tmp_path, rows(*lines)))) == [60] * 9


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)])
def test_daily_readings_last_a_calendar_day(tmp_path: Path, day: date, hours: int) -> None:
    zone = ZoneInfo(PARIS)
    days = [day + timedelta(days=n) for n in (-1, 0, 1)]
    midnights = [datetime(d.year, d.month, d.day, tzinfo=zone).isoformat() for d in days]
    found = read(write(tmp_path, rows(*(f"a,p1,{at},1,measured" for at in midnights))))
    assert lengths(found) == [24 * 60, hours * 60, 24 * 60]


@pytest.mark.parametrize(("base", "minutes"), [("P1D", 1440), ("PT1H", 60)])
def test_without_any_gap_an_interval_is_the_base_window(tmp_path: Path, base: str, minutes: int) -> None:
    text = rows(*(f"a,p{n},2026-01-01T00:00:00+01:00,1,measured" for n in range(3)))
    assert lengths(read(write(tmp_path, text), base=base)) == [minutes] * 3


@pytest.mark.parametrize(("base", "hours"), [("P1D", 24), ("PT1H", 1)])
def test_a_hole_in_the_readings_makes_no_interval_longer_than_the_base_window(
    base: str, hours: int, tmp_path: Path
) -> None:
    """A partner with one home that was read on two days out of three must not lose both readings."""
    holes = series("2026-01-05T00:00:00+01:00", timedelta(hours=2 * hours), 3)
    assert lengths(read(write(tmp_path, rows(*holes)), base=base)) == [60 * hours] * 3
    within = series("2026-01-09T00:00:00+01:00", timedelta(minutes=30), 2)
    assert lengths(read(write(tmp_path, rows(*holes, *within)), base=base)) == [30] * 5


def test_a_stated_interval_wins_over_the_gaps(tmp_path: Path) -> None:
    lines = [line + ",P1D" for line in series("2026-01-01T00:00:00+01:00", timedelta(days=1), 4)]
    lines += [line + ",PT30M" for line in series("2026-01-05T00:00:00+01:00", timedelta(minutes=30), 2)]
    lines += ["a,p1,2026-01-06T00:00:00+01:00,1,measured,", "a,p1,2026-01-07T00:00:00+01:00,1,measured,soon"]
    found = read(write(tmp_path, rows(*lines, head=HEAD + ",interval")))
    assert lengths(found) == [1440] * 4 + [30, 30] + [1440]
    assert found.quarantined == {"bad_interval": 1}


def test_a_register_is_a_moment(tmp_path: Path) -> None:
    text = rows(*series("2026-01-01T00:00:00+01:00", timedelta(hours=1), 3))
    found = read(write(tmp_path, text), kind="register", unit="L")
    assert lengths(found) == [0, 0, 0]
    assert found.frames["a"]["value"].to_list() == [1000] * 3


# -- files that are no tables -------------------------------------------------------------------------


def test_a_file_that_is_no_such_table_is_refused_by_name(tmp_path: Path) -> None:
    cases = {
        "empty_file": write(tmp_path, b"", "empty.csv"),
        "missing_column": write(tmp_path, "partner,timestamp,value\na,b,c\n", "columns.csv"),
        "unreadable_file": tmp_path / "absent.csv",
    }
    for reason, path in cases.items():
        with pytest.raises(InputError) as caught:
            read(path)
        assert caught.value.reason == reason
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 2
    with pytest.raises(InputError, match="delivery_point"):
        read(cases["missing_column"])
    for name, content in (("not.parquet", b"PAR1 no"), ("cut.csv.gz", b"\x1f\x8b\x08\x00")):
        with pytest.raises(InputError, match="unreadable_file"):
            read(write(tmp_path, content, name))
    with pytest.raises(InputError, match="bad_unit"):
        read(write(tmp_path, HEAD), unit="furlong")


# -- tables that decide who counts --------------------------------------------------------------------

SITES = "partner,holding,delivery_point,premises,area,segment"


def test_sites_come_by_partner_with_their_holding(tmp_path: Path) -> None:
    text = rows(
        "b,h2,p9,t9,iris1,flat,2026-01-01T00:00:00+01:00,,100000000000",
        "a,h1,p1,t1,iris1,,,2026-02-01T00:00:00+01:00,",
        "a,h1,p2,t2,iris2,house,,,",
        head=SITES + ",valid_from,valid_to,register_size",
    )
    found = read_sites(write(tmp_path, text))
    assert found.holdings == {"a": "h1", "b": "h2"}
    assert list(found.rows) == ["a", "b"]
    assert found.rows["a"].rows() == [
        ("p1", None, ms("2026-02-01T00:00:00+01:00"), "t1", "iris1", "", None),
        ("p2", None, None, "t2", "iris2", "house", None),
    ]
    assert found.rows["b"]["register_size"].to_list() == [10**11]


def test_sites_need_no_periods(tmp_path: Path) -> None:
    found = read_sites(write(tmp_path, rows("a,h,p,t,i,flat", head=SITES)))
    assert found.rows["a"].select("valid_from", "valid_to").rows() == [(None, None)]


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("a,h,p2,t,i,s,tomorrow,", "valid_from"),
        ("a,h,p2,t,i,s,,2026-01-01T00:00:00", "valid_to"),
        ("a,h,,t,i,s,,", "delivery_point"),
        ("a,h,p2,,i,s,,", "premises"),
        ("a,,p2,t,i,s,,", "holding"),
        ("a,h,p2,t,,s,,", "area"),
    ],
)
def test_a_bad_site_refuses_the_file_with_its_line(tmp_path: Path, line: str, column: str) -> None:
    text = rows("a,h,p1,t1,i,s,,", line, head=SITES + ",valid_from,valid_to")
    with pytest.raises(InputError, match=f"column {column}, line 3") as caught:
        read_sites(write(tmp_path, text))
    assert caught.value.reason == "bad_row"


def test_a_partner_of_two_holdings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"partner a has holdings h1, h2.*two_holdings"):
        read_sites(write(tmp_path, rows("a,h1,p,t,i,s", "a,h2,q,t,i,s", head=SITES)))


def test_an_objection_that_cannot_be_read_refuses_the_file(tmp_path: Path) -> None:
    """Leaving the row out would let the reading count."""
    head = "delivery_point,purpose,granted_from,expires_at,withdrawn_at"
    good = "p1,housing,2026-01-01T00:00:00Z,,"
    found = read_consent(write(tmp_path, rows(good, head=head)))
    assert found.rows() == [("p1", "housing", ms("2026-01-01T00:00:00+00:00"), None, None)]
    with pytest.raises(InputError, match="column withdrawn_at, line 3"):
        read_consent(write(tmp_path, rows(good, "p2,housing,,,yesterday", head=head)))
    with pytest.raises(InputError, match="unreadable_file"):
        read_consent(write(tmp_path, rows(good + ",more", head=head)))


def test_areas_have_no_parent_at_the_top(tmp_path: Path) -> None:
    found = read_areas(write(tmp_path, "level,area,parent\nepci,E,\niris,01004,E\n"))
    assert found.rows() == [("E", None, "epci"), ("01004", "E", "iris")]

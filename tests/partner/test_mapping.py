"""A partner's export becomes readings exactly as its mapping says, real exports and changing clocks too."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from broker.core.errors import InputError
from broker.core.readings import SCHEMA
from broker.partner.mapping import Mapped, apply_mapping, load_mapping, make_mapping

DAIAD = {
    "columns": {"delivery_point": "user key", "timestamp": "datetime", "value": "meter reading"},
    "separator": ";",
    "time": {"format": "%d/%m/%Y %H:%M:%S", "zone": "Europe/Madrid"},
    "measure": "water",
    "kind": "register",
    "unit": "L",
}
CAMBRIDGE = {
    "columns": {"delivery_point": "building_id", "timestamp": "datetime", "value": "kwh"},
    "time": {"format": "%Y-%m-%d %H:%M:%S", "zone": "UTC"},
    "measure": "electricity",
    "kind": "interval",
    "interval": "PT1H",
    "unit": "kWh",
    "where": {"utility": "electricity"},
}
PLAIN: dict[str, Any] = {
    "columns": {"delivery_point": "point", "timestamp": "at", "value": "value"},
    "measure": "electricity",
    "kind": "interval",
    "interval": "PT1H",
    "unit": "kWh",
}

NOW = 1_798_761_600_000  # 2027-01-01T00:00:00Z: after all that is read here


def apply(folder: Path, text: str, **changes: Any) -> Mapped:
    path = folder / "export.csv"
    path.write_text(text, encoding="utf-8")
    return apply_mapping(path, make_mapping(PLAIN | changes, "mapping.yaml"), now=NOW)


def ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def at(text: str) -> int:
    return ms(datetime.fromisoformat(text))


def rows_of(path: Path, separator: str) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=separator))


# -- real exports -------------------------------------------------------------------------------------


def test_water_registers_of_alicante_are_read_in_litres_and_local_time(shared_data: Path) -> None:
    """Against the standard library's zones and decimals; the hour that happened twice is judged apart."""
    path = shared_data / "water_daiad" / "swm_trialA_2016-10_2016-11.csv.gz"
    found = apply_mapping(path, make_mapping(DAIAD, "daiad.yaml"), now=NOW)
    rows = rows_of(path, ";")
    assert found.read == len(rows) == len(found.readings)
    assert found.bad.is_empty() and found.skipped == 0
    zone = ZoneInfo("Europe/Madrid")
    expected, twice = [], 0
    for row in rows:
        local = datetime.strptime(row["datetime"], "%d/%m/%Y %H:%M:%S").replace(tzinfo=zone)
        moments = {ms(local.replace(fold=0)), ms(local.replace(fold=1))}
        twice += len(moments) == 2
        expected.append((row["user key"], moments, int(Decimal(row["meter reading"]) * 1000)))
    got = found.readings.select("delivery_point", "start", "end", "value", "offset").rows()
    for number, ((point, start, end, value, offset), (name, moments, litres)) in enumerate(
        zip(got, expected, strict=True)
    ):
        assert (point, value, offset) == (name, litres, number)
        assert start == end and start in moments
    assert found.ambiguous == twice > 100
    assert found.until == max(start for _, start, *_ in got)


def test_the_hour_that_happened_twice_goes_on_in_time(shared_data: Path) -> None:
    """30 October 2016 in Alicante: a meter read every hour has one reading in each of the two hours."""
    path = shared_data / "water_daiad" / "swm_trialA_2016-10_2016-11.csv.gz"
    found = apply_mapping(path, make_mapping(DAIAD, "daiad.yaml"), now=NOW).readings
    first, second, end = (at(f"2016-10-30T{hour}:00:00+00:00") for hour in ("00", "01", "02"))
    night = found.filter(pl.col("start").is_between(first, end - 1))
    hours = night.group_by("delivery_point").agg(
        first=(pl.col("start") < second).sum(), second=(pl.col("start") >= second).sum()
    )
    # Of those that the file has twice or more in the local hour, each has readings in both.
    several = hours.filter(pl.col("first") + pl.col("second") > 1)
    assert len(several) > 70
    assert several.select(((pl.col("first") > 0) & (pl.col("second") > 0)).all()).item()
    in_order = found.with_columns(step=pl.col("start").diff().over("delivery_point"))
    # The export itself repeats some readings of that hour, a few seconds out of order.
    steps = in_order.filter(pl.col("start").is_between(first, end + 3_600_000))["step"]
    assert steps.drop_nulls().min() > -60_000  # type: ignore[operator]


def test_hourly_electricity_of_cambridge_is_read_in_exact_watt_hours(shared_data: Path) -> None:
    path = shared_data / "energy_cambridge" / "cambridge_hourly_2016-10_2016-11.csv.gz"
    rows = rows_of(path, ",")
    for utility, measure in (("electricity", "electricity"), ("gas", "gas")):
        mapping = CAMBRIDGE | {"measure": measure, "where": {"utility": utility}}
        found = apply_mapping(path, make_mapping(mapping, "cambridge.yaml"), now=NOW)
        expected = [
            (
                row["building_id"],
                ms(datetime.fromisoformat(row["datetime"]).replace(tzinfo=UTC)),
                int(Decimal(row["kwh"]) * 1000),
                number,
            )
            for number, row in enumerate(rows)
            if row["utility"] == utility
        ]
        assert found.readings.select("delivery_point", "start", "value", "offset").rows() == expected
        assert found.readings.select((pl.col("end") - pl.col("start") == 3_600_000).all()).item()
        assert found.skipped + len(expected) == found.read == len(rows)


# -- what a mapping can say ---------------------------------------------------------------------------


def test_a_decimal_comma_and_another_separator(tmp_path: Path) -> None:
    found = apply(tmp_path, "point;at;value\np;2026-01-01T00:00:00Z;1,5\n", separator=";", decimal=",")
    assert dict(found.readings.schema) == dict(SCHEMA)
    assert found.readings.rows() == [
        ("p", at("2026-01-01T00:00:00+00:00"), at("2026-01-01T01:00:00+00:00"), 1500, "measured", 0)
    ]


def test_every_row_is_read_left_out_or_bad(tmp_path: Path) -> None:
    text = "point,at,value,kind\n" + "\n".join(
        [
            "p,2026-01-01T00:00:00Z,1,x",
            "p,2026-01-01T01:00:00Z,1,y",
            "p,yesterday,1,x",
            "p,2026-01-01T02:00:00Z,much,x",
            "p,2026-01-01T03:00:00Z,0.0001,x",
            ",2026-01-01T03:00:00Z,1,x",
            "p,2026-01-01T03:00:00Z,1,5,x",
        ]
    )
    found = apply(tmp_path, text, where={"kind": "x"})
    assert (found.read, found.skipped, len(found.readings)) == (7, 1, 1)
    assert Counter(found.bad["reason"]) == {
        "bad_timestamp": 1,
        "bad_value": 1,
        "inexact_value": 1,
        "undecodable": 2,
    }
    assert found.bad["offset"].to_list() == [2, 3, 4, 5, 6]


def test_a_row_that_ends_more_than_a_day_ahead_is_bad_and_moves_no_mark(tmp_path: Path) -> None:
    """One wrong year would else close every window up to then. The last hour allowed, one more, a typing error."""
    times = ["2027-01-01T23:00:00Z", "2027-01-02T00:00:00Z", "2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
    found = apply(tmp_path, "point,at,value\n" + "".join(f"p,{time},1\n" for time in times))
    assert found.readings["offset"].to_list() == [0]
    assert found.until == NOW + 24 * 3_600_000
    assert found.not_read == {"far_future": (3, [3, 4, 5])}


def test_the_first_lines_of_each_reason_are_told(tmp_path: Path) -> None:
    rows = ["p,never,1", *("p,2026-01-01T00:00:00Z,1;5" for _ in range(9)), "p,2026-01-01T00:00:00Z,1"]
    found = apply(tmp_path, "point,at,value\n" + "\n".join(rows))
    assert found.not_read == {"bad_timestamp": (1, [2]), "bad_value": (9, [3, 4, 5, 6, 7])}


def test_the_exports_words_for_quality_are_translated(tmp_path: Path) -> None:
    text = "point,at,value,q\n" + "".join(f"p,2026-01-01T0{n}:00:00Z,1,{q}\n" for n, q in enumerate("MEX"))
    columns = PLAIN["columns"] | {"quality": "q"}
    found = apply(tmp_path, text, columns=columns, qualities={"M": "measured", "E": "estimated"})
    assert found.readings["quality"].to_list() == ["measured", "estimated", "unknown"]


@pytest.mark.parametrize(("day", "hours"), [("28/03/2026", 24), ("29/03/2026", 23), ("25/10/2026", 25)])
def test_a_day_lasts_until_the_next_local_midnight(tmp_path: Path, day: str, hours: int) -> None:
    time = {"format": "%d/%m/%Y", "zone": "Europe/Paris"}
    found = apply(
        tmp_path,
        f"point,at,value\np,{day} 00:00,1\n",
        time=time | {"format": "%d/%m/%Y %H:%M"},
        interval="P1D",
    )
    ((start, end),) = found.readings.select("start", "end").rows()
    assert end - start == hours * 3_600_000


def test_times_with_an_offset_need_no_zone(tmp_path: Path) -> None:
    found = apply(tmp_path, "point,at,value\np,20260101 0130 +0100,1\n", time={"format": "%Y%m%d %H%M %z"})
    assert found.readings["start"].to_list() == [at("2026-01-01T00:30:00+00:00")]


def local(folder: Path, *times: str, point: str = "p") -> Mapped:
    text = "point,at,value\n" + "".join(f"{point},{time},1\n" for time in times)
    return apply(folder, text, time={"format": "%Y-%m-%d %H:%M", "zone": "Europe/Paris"})


def test_a_time_that_happened_twice_is_told_by_the_order_of_the_file(tmp_path: Path) -> None:
    hour = [f"2026-10-25 02:{minute}" for minute in ("00", "15", "30", "45")]
    quarters = ["2026-10-25 01:45", *hour, *hour, "2026-10-25 03:00"]
    found = local(tmp_path, *quarters)
    steps = found.readings["start"].diff().drop_nulls().to_list()
    assert steps == [900_000] * 9
    assert found.ambiguous == 8
    # once only: the first of the two
    alone = local(tmp_path, "2026-10-25 01:00", "2026-10-25 02:00", "2026-10-25 04:00")
    assert alone.readings["start"][1] == at("2026-10-25T00:00:00+00:00")
    assert alone.ambiguous == 1


def test_a_time_that_never_was_is_bad(tmp_path: Path) -> None:
    found = local(tmp_path, "2026-03-29 01:30", "2026-03-29 02:30", "2026-03-29 03:30")
    assert found.bad.rows() == [(1, "bad_timestamp")]
    assert found.readings["start"].diff().to_list() == [None, 3_600_000]


# -- mappings that make no sense ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit": "furlong"}, "kWh"),
        ({"unit": "m3"}, "not measured in m3"),
        ({"interval": None}, "kind: interval needs"),
        ({"kind": "register"}, "kind: register has none"),
        ({"interval": "P1D"}, "time.zone"),
        ({"interval": "PT0S"}, "longer than nothing"),
        ({"interval": "an hour"}, "interval"),
        ({"time": {"format": "%d/%m/%Y"}}, "zone"),
        ({"time": {"format": "%d/%m/%Y", "zone": "Paris"}}, "Europe/Paris"),
        ({"decimal": ","}, "are the same"),
        ({"measure": "smell"}, "measure"),
        ({"separater": ";"}, "separator"),
    ],
)
def test_a_mapping_that_makes_no_sense_names_file_and_field(changes: dict[str, Any], said: str) -> None:
    values = {k: v for k, v in (PLAIN | changes).items() if v is not None}
    with pytest.raises(InputError) as caught:
        make_mapping(values, "m.yaml")
    assert "m.yaml" in str(caught.value)
    assert said in str(caught.value)


def test_a_column_that_the_export_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column value.*missing_column"):
        apply(tmp_path, "point,at,amount\n")


def test_a_mapping_is_a_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "columns: {delivery_point: p, timestamp: t, value: v}\nmeasure: water\nkind: register\nunit: m3\n"
    )
    assert load_mapping(path).columns.value == "v"
    with pytest.raises(InputError, match=r"absent\.yaml"):
        load_mapping(tmp_path / "absent.yaml")

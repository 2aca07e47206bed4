"""Real meters through the real Kafka: the released totals are those of the raw files, computed without the broker.

Water: DAIAD's household registers (litres, ordered by meter, real gaps, local time of Spain). Energy: electricity and
gas of Cambridge's buildings (hourly, UTC), whom the test divides among three suppliers. The assignment of meters to
districts is made up. All days are local: 2016-10-30 has 25 hours.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from folders import HIERARCHY, write_folder
from run import Running, running, tally

from broker.cli import run as broker

WATER = "water_daiad/swm_trialA_2016-10_2016-11.csv.gz"
ENERGY = "energy_cambridge/cambridge_hourly_2016-10_2016-11.csv.gz"
ZONE = ZoneInfo("Europe/Madrid")
FIRST, LAST = date(2016, 10, 2), date(2016, 11, 30)
DAYS = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
SUPPLIERS = ("supplier-a", "supplier-b", "supplier-c")
DISTRICTS = ("east", "west")
MAX_GAP = timedelta(days=1)

POLICY: dict[str, Any] = yaml.safe_load(f"""
product: real-daily
version: 1
domain: housing
title: {{fr: "Consommations par jour", en: "Use by day"}}
meaning: {{fr: "Électricité, gaz et eau par jour.", en: "Electricity, gas and water by day."}}
controllers: [supplier-a, supplier-b, supplier-c, water]
processor: broker
dpia: "sha256:0000000000000000000000000000000000000000000000000000000000000000"
purpose: planning
lawful_basis: {{kind: public_task, reference: "test"}}
inputs:
  electricity:
    {{measure: electricity, unit: Wh, kind: interval, partners: [supplier-a, supplier-b, supplier-c],
      qualities: [measured]}}
  gas:
    {{measure: gas, unit: Wh, kind: interval, partners: [supplier-a, supplier-b, supplier-c],
      qualities: [measured]}}
  water: {{measure: water, unit: mL, kind: register, partners: [water], qualities: [measured], max_gap: P1D}}
join: none
window: {{length: P1D, base: P1D, timezone: Europe/Madrid, on_stall: hold, max_hold: P10D}}
watermark: marks
coverage: 1.0
areas: {{hierarchy: {HIERARCHY}, levels: [district, city], group: city}}
measures:
  electricity_points: {{kind: count, input: electricity}}
  electricity: {{kind: sum, input: electricity, unit: kWh}}
  gas: {{kind: sum, input: gas, unit: kWh}}
  water_points: {{kind: count, input: water}}
  water: {{kind: sum, input: water, unit: L}}
disclosure:
  min_contributors: 3
  min_holdings: 3
  p_percent: 1
  dominance: [[1, 95]]
  without_each_holding: true
  waivers: [{{holding: water, column: water, basis: "test", areas: [district, city]}}]
recipients: [public]
licence: etalab-2.0
retention: {{contributions: until-release, releases: P10Y}}
""")

MAPPINGS = {
    "water": """
columns: {delivery_point: user key, timestamp: datetime, value: meter reading}
separator: ";"
time: {format: "%d/%m/%Y %H:%M:%S", zone: Europe/Madrid}
measure: water
kind: register
unit: L
""",
    **{
        utility: f"""
columns: {{delivery_point: building_id, timestamp: datetime, value: kwh}}
time: {{format: "%Y-%m-%d %H:%M:%S", zone: UTC}}
measure: {utility}
kind: interval
interval: PT1H
unit: kWh
where: {{utility: {utility}}}
"""
        for utility in ("electricity", "gas")
    },
}

Totals = dict[tuple[date, str, str], Decimal]  # (local day, district, measure)


# -- the raw files, without the broker ----------------------------------------------------------------


def supplier(building: str) -> str:
    return SUPPLIERS[_number(building) % 3]


def district(building: str) -> str:
    return DISTRICTS[_number(building) // 3 % 2]


def _number(building: str) -> int:
    return int(building.removeprefix("UCam_b"))


def energy_rows(data: Path) -> list[dict[str, str]]:
    with gzip.open(data / ENERGY, "rt") as file:
        return list(csv.DictReader(file))


def energy_totals(rows: list[dict[str, str]]) -> Totals:
    """Sums of hours by the local day in which they begin; every building of the file has all its hours."""
    totals: Totals = defaultdict(Decimal)
    points = set()
    for row in rows:
        begin = datetime.fromisoformat(row["datetime"]).replace(tzinfo=UTC).astimezone(ZONE)
        day, where = begin.date(), district(row["building_id"])
        totals[day, where, row["utility"]] += Decimal(row["kwh"])
        if row["utility"] == "electricity":
            points.add((day, where, row["building_id"]))
    for day, where, _ in points:
        totals[day, where, "electricity_points"] += 1
    return totals


def water_registers(data: Path) -> dict[str, list[tuple[datetime, int]]]:
    """(moment, litres) of each meter in order of time; of one moment the last of the file."""
    found: dict[str, dict[datetime, int]] = defaultdict(dict)
    with gzip.open(data / WATER, "rt") as file:
        for row in csv.DictReader(file, delimiter=";"):
            local = datetime.strptime(row["datetime"], "%d/%m/%Y %H:%M:%S").replace(tzinfo=ZONE)
            found[row["user key"]][local.astimezone(UTC)] = int(Decimal(row["meter reading"]))  # one is 6e+05
    return {meter: sorted(values.items()) for meter, values in found.items()}


def water_totals(registers: Mapping[str, list[tuple[datetime, int]]]) -> Totals:
    """Differences of the last readings at or before each midnight, both within a day of theirs; a fall gives none."""
    totals: Totals = defaultdict(Decimal)
    midnights = [datetime.combine(day, time(), ZONE).astimezone(UTC) for day in [*DAYS, LAST + timedelta(1)]]
    for n, meter in enumerate(sorted(registers)):
        at = [_last_before(registers[meter], midnight) for midnight in midnights]
        for day, (opening, closing) in zip(DAYS, pairwise(at), strict=True):
            if opening is not None and closing is not None and closing >= opening:
                totals[day, DISTRICTS[n % 2], "water"] += closing - opening
                totals[day, DISTRICTS[n % 2], "water_points"] += 1
    return totals


def _last_before(readings: list[tuple[datetime, int]], midnight: datetime) -> int | None:
    earlier = [(moment, value) for moment, value in readings if moment <= midnight]
    if not earlier or midnight - earlier[-1][0] > MAX_GAP:
        return None
    return earlier[-1][1]


# -- the same through the broker ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected(shared_data: Path) -> Totals:
    by_district = {
        **energy_totals(energy_rows(shared_data)),
        **water_totals(water_registers(shared_data)),
    }
    city: Totals = defaultdict(Decimal)
    for (day, _, measure), value in by_district.items():
        city[day, "city", measure] += value
    return {key: value for key, value in {**by_district, **city}.items() if FIRST <= key[0] <= LAST}


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("real")
    energy = [
        {"name": utility, "measure": utility, "kind": "interval", "unit": "Wh"}
        for utility in ("electricity", "gas")
    ]
    water = [{"name": "water", "measure": "water", "kind": "register", "unit": "mL"}]
    folder = write_folder(
        home,
        timezone="Europe/Madrid",
        lanes=2,
        areas=[("city", "", "city"), *((name, "city", "district") for name in DISTRICTS)],
        partners={**dict.fromkeys(SUPPLIERS, energy), "water": water},
        policies=[POLICY],
    )
    with running(home, folder, FIRST.isoformat()) as found:
        found.start("all")
        send_all(found, shared_data, home)
        found.wait_for({"real-daily": len(DAYS)})
        yield found


def send_all(found: Running, data: Path, home: Path) -> None:
    """Each partner's sites, then its export, by `broker partner send`. The water's export goes as it is."""
    sites = home / "sites.csv"
    rows = energy_rows(data)
    meters = sorted(water_registers(data))
    with sites.open("w") as file:
        file.write("partner,holding,delivery_point,premises,area,segment\n")
        for building in sorted({row["building_id"] for row in rows}):
            who = supplier(building)
            file.write(f"{who},{who},{building},home-of-{building},{district(building)},\n")
        for n, meter in enumerate(meters):
            file.write(f"water,water,{meter},home-of-{meter},{DISTRICTS[n % 2]},\n")
    for partner in (*SUPPLIERS, "water"):
        send(found, partner, "--kind", "sites", str(sites))
    for utility, text in MAPPINGS.items():
        (home / f"{utility}.yaml").write_text(text)
    until = ("--until", "2016-12-01T00:00:00+01:00")
    stream = ("--stream", "water", "--mapping", str(home / "water.yaml"))
    send(found, "water", *stream, *until, str(data / WATER))
    for partner in SUPPLIERS:
        export = home / f"{partner}.csv"
        with export.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row for row in rows if supplier(row["building_id"]) == partner)
        for utility in ("electricity", "gas"):
            mapping = ("--stream", utility, "--mapping", str(home / f"{utility}.yaml"))
            send(found, partner, *mapping, str(export))


def send(found: Running, partner: str, *arguments: str) -> None:
    kafka = found.demo.kafka
    login = ("--bootstrap", kafka.bootstrap, "--ca", str(kafka.ca_pem))
    password = ("--password-file", str(kafka.home.secrets / partner))
    assert broker(["partner", "send", "--partner", partner, *login, *password, *arguments]) == 0


def test_totals_of_real_meters_are_those_of_the_raw_files(real: Running, expected: Totals) -> None:
    found: Totals = {}
    for row in csv.DictReader(real.decisions_csv("real-daily").decode().splitlines()):
        day = datetime.fromisoformat(row["window_start"]).date()
        found[day, row["area"], row["measure"]] = Decimal(row["true_value"])
    assert found == expected
    autumn = datetime.combine(date(2016, 10, 30), time(), ZONE).astimezone(UTC)
    assert datetime.combine(date(2016, 10, 31), time(), ZONE).astimezone(UTC) - autumn == timedelta(hours=25)


def test_what_is_published_of_real_meters_is_true_and_most_of_it_is_published(
    real: Running, expected: Totals
) -> None:
    published = 0
    rows = list(csv.DictReader(real.releases_csv("real-daily").decode().splitlines()))
    for row in rows:
        if row["status"] == "published":
            day = datetime.fromisoformat(row["window_start"]).date()
            assert Decimal(row["value"]) == expected[day, row["area"], row["measure"]]
            published += 1
        else:
            assert row["value"] == ""
    assert published > len(rows) / 2


def test_every_row_of_the_exports_is_in_the_receipts(real: Running, shared_data: Path) -> None:
    counts = {partner: tally(real.receipts(partner)) for partner in (*SUPPLIERS, "water")}
    with gzip.open(shared_data / WATER, "rt") as file:
        assert counts["water"]["read"] == sum(1 for _ in file) - 1
    assert sum(counts[partner]["read"] for partner in SUPPLIERS) == len(energy_rows(shared_data))
    for count in counts.values():
        assert count["quarantined"] == 0
        assert count["admitted"] + count["no_product"] == count["read"]

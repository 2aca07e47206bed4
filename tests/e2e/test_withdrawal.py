"""A person who withdraws, or objects, in the middle of a month is gone from all that is open; what is out stays.

Two products stand on consent and two on a public task, by day and by month, over the same readings of thirty homes.
The expected sums are computed here, home by home. The workers are restarted on the way.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml
from folders import HIERARCHY, write_folder
from run import Running, running, tally

from broker.core.plan import Stream
from broker.edge.kafka.clients import bulk_producer
from broker.partner.send import StreamSender, send_consent, send_sites

ZONE = ZoneInfo("Europe/Paris")
MONTH = [date(2026, 2, day) for day in range(1, 29)]
# Days that are out before anybody withdraws: nine in ten, so that nothing but the withdrawal empties the month.
RELEASED = 26
PARTNERS = ("energy-a", "energy-b", "energy-c")
HOMES = range(30)
WITHDRAWS, OBJECTS, EXPIRES, GRANTS_LATE, NEVER_ASKED = 0, 1, 27, 28, 29
EXPIRY, GRANT = date(2026, 2, 20), date(2026, 2, 10)
ADVICE, PLANNING = "advice", "planning"  # purposes: of the products by consent, and of those by public task


def policy(name: str, basis: str, length: str) -> dict[str, Any]:
    by_law = ', reference: "test"' if basis == "public_task" else ""
    found: dict[str, Any] = yaml.safe_load(f"""
product: {name}
version: 1
domain: housing
title: {{fr: "{name}", en: "{name}"}}
meaning: {{fr: "Électricité des logements.", en: "Electricity of homes."}}
controllers: [energy-a, energy-b, energy-c]
processor: broker
dpia: "sha256:0000000000000000000000000000000000000000000000000000000000000000"
purpose: {ADVICE if basis == "consent" else PLANNING}
lawful_basis: {{kind: {basis}{by_law}}}
inputs:
  energy:
    {{measure: electricity, unit: Wh, kind: interval, partners: [energy-a, energy-b, energy-c], qualities: [measured]}}
join: premises
window: {{length: {length}, base: P1D, timezone: Europe/Paris, on_stall: hold, max_hold: P10D}}
watermark: marks
areas: {{hierarchy: {HIERARCHY}, levels: [quarter, city], group: city}}
measures:
  homes: {{kind: count}}
  energy: {{kind: sum, input: energy, unit: Wh}}
disclosure:
  {{min_contributors: 3, min_holdings: 3, p_percent: 1, dominance: [[1, 90]], without_each_holding: true}}
recipients: [public]
licence: etalab-2.0
retention: {{contributions: until-release, releases: P10Y}}
""")
    return found


PRODUCTS = {
    "consent-daily": policy("consent-daily", "consent", "P1D"),
    "consent-monthly": policy("consent-monthly", "consent", "P1M"),
    "task-daily": policy("task-daily", "public_task", "P1D"),
    "task-monthly": policy("task-monthly", "public_task", "P1M"),
}

# -- what is sent -------------------------------------------------------------------------------------


def ms(day: date, hour: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=ZONE).timestamp() * 1000)


def partner(home: int) -> str:
    return PARTNERS[home % 3]


def quarter(home: int) -> str:
    return ("north", "south")[home // 3 % 2]


def use(home: int, day: date) -> int:
    return 5_000 + 37 * home + 11 * day.day


def sites(name: str) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (f"point-{home}", None, None, f"home-{home}", quarter(home), "", None)
            for home in HOMES
            if partner(home) == name
        ],
        schema={
            "delivery_point": pl.String,
            "valid_from": pl.Int64,
            "valid_to": pl.Int64,
            "premises": pl.String,
            "area": pl.String,
            "segment": pl.String,
            "register_size": pl.Int64,
        },
        orient="row",
    )


def consent(homes: range | list[int], withdrawn: dict[int, str] | None = None) -> pl.DataFrame:
    """The whole state of these homes' points; withdrawn: home → purpose, on the first day that is still open."""
    rows: list[tuple[str | int | None, ...]] = []
    for home, purpose in product(homes, (ADVICE, PLANNING)):
        gone = ms(MONTH[RELEASED], 10) if (withdrawn or {}).get(home) == purpose else None
        granted = ms(GRANT, 12) if home == GRANTS_LATE else ms(date(2026, 1, 1))
        expires = ms(EXPIRY) if home == EXPIRES else None
        if purpose == ADVICE and home != NEVER_ASKED:
            rows.append((f"point-{home}", purpose, granted, expires, gone))
        elif purpose == PLANNING and gone is not None:
            rows.append((f"point-{home}", purpose, None, None, gone))
    moments = ("granted_from", "expires_at", "withdrawn_at")
    schema = {"delivery_point": pl.String, "purpose": pl.String, **dict.fromkeys(moments, pl.Int64)}
    return pl.DataFrame(rows, schema=schema, orient="row")


class Partners:
    """The three suppliers, each with its own login."""

    def __init__(self, found: Running) -> None:
        self.codec = found.demo.codec
        self.producers = {name: bulk_producer(found.demo.kafka.settings(name)) for name in PARTNERS}
        self.senders = {
            name: StreamSender(
                self.producers[name], Stream(name, name, "power", "electricity", "interval", "Wh"), self.codec
            )
            for name in PARTNERS
        }

    def tables(self) -> None:
        for name, producer in self.producers.items():
            send_sites(producer, name, sites(name), self.codec)
            send_consent(producer, name, consent([h for h in HOMES if partner(h) == name]), self.codec)

    def withdraw(self, home: int, purpose: str) -> None:
        name = partner(home)
        send_consent(self.producers[name], name, consent([home], {home: purpose}), self.codec)

    def days(self, days: list[date]) -> None:
        """Readings of all homes, also of those who withdrew, and each day's mark."""
        for day, (name, sender) in product(days, self.senders.items()):
            end = ms(day + timedelta(1))
            rows = [
                (f"point-{home}", ms(day), end, use(home, day), "measured", 0)
                for home in HOMES
                if partner(home) == name
            ]
            columns = ["delivery_point", "start", "end", "value", "quality", "offset"]
            sender.readings(pl.DataFrame(rows, schema=columns, orient="row"))
            sender.mark(end)
        for sender in self.senders.values():
            sender.outbox.close()


# -- what must come out -------------------------------------------------------------------------------


def counts_on(basis: str, home: int, day: date) -> bool:
    """Whether a home counts in a daily product."""
    is_open = day >= MONTH[RELEASED]
    if basis == "task":
        return not (home == OBJECTS and is_open)
    if home == GRANTS_LATE:
        return day > GRANT  # from the next day on
    if home == EXPIRES:
        return day < EXPIRY
    return home != NEVER_ASKED and not (home == WITHDRAWS and is_open)


def counts_in_month(basis: str, home: int) -> bool:
    """Whether a home counts in the month: not after one withdrawal, nor with fewer than nine days in ten."""
    gone = {OBJECTS} if basis == "task" else {WITHDRAWS, EXPIRES, GRANTS_LATE, NEVER_ASKED}
    return home not in gone


def expected(name: str) -> dict[tuple[str, str, str], int]:
    """(first day of the window, area, measure) → true value."""
    basis, length = name.split("-")
    found: dict[tuple[str, str, str], int] = {}
    for home, day in product(HOMES, MONTH):
        counts = counts_on(basis, home, day) if length == "daily" else counts_in_month(basis, home)
        window = day if length == "daily" else MONTH[0]
        for area in (quarter(home), "city") if counts else ():
            energy, homes = (window.isoformat(), area, "energy"), (window.isoformat(), area, "homes")
            found[energy] = found.get(energy, 0) + use(home, day)
            found[homes] = found.get(homes, 0) + (length == "daily" or day == MONTH[0])
    return found


# -- the run ------------------------------------------------------------------------------------------

Bytes = dict[str, list[tuple[bytes | None, bytes | None]]]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Bytes]]:
    """The whole month; with what was out before anybody withdrew."""
    home = tmp_path_factory.mktemp("withdrawal")
    stream = {"name": "power", "measure": "electricity", "kind": "interval", "unit": "Wh"}
    folder = write_folder(
        home,
        timezone="Europe/Paris",
        lanes=1,
        areas=[("city", "", "city"), ("north", "city", "quarter"), ("south", "city", "quarter")],
        partners={name: [stream] for name in PARTNERS},
        policies=list(PRODUCTS.values()),
    )
    with running(home, folder, MONTH[0].isoformat()) as found:
        partners = Partners(found)
        partners.tables()
        found.start("first")
        partners.days(MONTH[:RELEASED])
        found.wait_for({"consent-daily": RELEASED, "task-daily": RELEASED})
        early = {name: found.out(name) for name in PRODUCTS}
        partners.withdraw(WITHDRAWS, ADVICE)
        partners.withdraw(OBJECTS, PLANNING)
        partners.days(MONTH[RELEASED : RELEASED + 1])
        found.until(lambda: found.released()["task-daily"] > RELEASED, "the day of the withdrawal")
        assert found.leave("first")[0] == 0
        found.start("second")
        partners.days(MONTH[RELEASED + 1 :])
        found.wait_for({"consent-daily": 28, "task-daily": 28, "consent-monthly": 1, "task-monthly": 1})
        yield found, early


@pytest.mark.parametrize("name", PRODUCTS)
def test_who_withdraws_or_objects_is_gone_from_open_windows_and_from_the_whole_month(
    month: tuple[Running, Bytes], name: str
) -> None:
    rows = csv.DictReader(month[0].decisions_csv(name).decode().splitlines())
    found = {(row["window_start"][:10], row["area"], row["measure"]): int(row["true_value"]) for row in rows}
    assert found == expected(name)


@pytest.mark.parametrize("name", PRODUCTS)
def test_what_was_released_before_a_withdrawal_is_never_touched(
    month: tuple[Running, Bytes], name: str
) -> None:
    found, early = month
    records = found.out(name)
    assert len(records) > len(early[name])
    assert set(early[name]) <= set(records)
    windows = [key for key, _ in records]
    assert len(set(windows)) * 2 == len(windows), "a manifest and a chunk for each window and group"


def test_what_a_home_still_sends_after_a_withdrawal_is_accounted_for(month: tuple[Running, Bytes]) -> None:
    for name in PARTNERS:
        count = tally(month[0].receipts(name))
        # Each home still counts for one of the two purposes, so nothing is refused; nothing is malformed.
        assert count["read"] == count["admitted"] == 10 * len(MONTH)

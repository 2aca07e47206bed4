"""Register values: their own window, and the windows that they open."""

from __future__ import annotations

from typing import Any

import polars as pl
from admission_world import (
    CONSENT,
    DAY,
    HOUR,
    WATER,
    admitted,
    batch,
    consent_table,
    domain_of,
    keys,
    ms,
    reasons,
    site_table,
    water,
    water_product,
)

from broker.core.admission import OPENING, REGISTER, Admission
from broker.core.pseudonym import point_pseudonyms

D3, D4, D5, D6 = (ms(f"2026-02-0{n} 00:00") for n in (3, 4, 5, 6))
SITES = site_table(("p", None, None, "home", "C1", "flat", 10**9))
DOMAIN = domain_of(water_product())


def read(*moments: int, point: str = "p", quality: str = "measured", **more: Any) -> Admission:
    rows = batch(*((point, at, at, 1000 + n, quality) for n, at in enumerate(moments)))
    options = {"domain": DOMAIN, "sites": SITES, "stream": WATER} | more
    return admitted(rows, **options)


def rows_of(admission: Admission) -> set[tuple[int, int, int]]:
    """(role, window, order)."""
    return set(admission.contributions.select("role", "window", "order").iter_rows())


def test_a_register_counts_in_the_window_that_ends_at_or_after_it_and_opens_those_within_max_gap() -> None:
    noon = D3 + 12 * HOUR
    assert rows_of(read(noon)) == {(REGISTER, D3, 0), (OPENING, D4, 0), (OPENING, D5, 0)}
    assert rows_of(read(D4)) == {(REGISTER, D3, 0), (OPENING, D4, 0), (OPENING, D5, 0), (OPENING, D6, 0)}
    assert rows_of(read(D4 - 1)) == {(REGISTER, D3, 0), (OPENING, D4, 0), (OPENING, D5, 0)}
    assert rows_of(read(D4 + 1)) == {(REGISTER, D4, 0), (OPENING, D5, 0), (OPENING, D6, 0)}
    short = domain_of(water_product(inputs={"water": water(max_gap="PT6H")}))
    assert rows_of(read(noon, domain=short)) == {(REGISTER, D3, 0)}
    assert rows_of(read(D4 - 6 * HOUR, domain=short)) == {(REGISTER, D3, 0), (OPENING, D4, 0)}
    assert rows_of(read(D4 - 6 * HOUR - 1, domain=short)) == {(REGISTER, D3, 0)}


def test_only_the_last_reading_of_a_batch_opens_a_window() -> None:
    moments = [D3 + 5 * HOUR, D3 + 20 * HOUR, D3 + 10 * HOUR, D3 + 20 * HOUR]
    admission = read(*moments)
    assert admission.admitted == 4
    assert {order for role, _, order in rows_of(admission) if role == OPENING} == {3}
    assert {order for role, _, order in rows_of(admission) if role == REGISTER} == {0, 1, 2, 3}


def test_the_last_reading_of_each_mask_opens_a_window() -> None:
    domain = domain_of(
        water_product("a"), water_product("b", inputs={"water": water(qualities=["measured", "estimated"])})
    )
    rows = batch(
        ("p", D3 + HOUR, D3 + HOUR, 1, "measured"), ("p", D3 + DAY // 2, D3 + DAY // 2, 2, "estimated")
    )
    opening = admitted(rows, domain, SITES, stream=WATER).contributions.filter(pl.col("role") == OPENING)
    assert set(opening.filter(pl.col("window") == D4).select("order", "mask").iter_rows()) == {(0, 3), (1, 2)}


def test_a_reading_that_is_late_for_its_own_window_opens_no_later_one() -> None:
    in_time = read(D3 + HOUR, mark=D4 - 1)
    assert rows_of(in_time) == {(REGISTER, D3, 0), (OPENING, D4, 0), (OPENING, D5, 0)}
    for mark in (D4, D5, D6):
        admission = read(D3 + HOUR, mark=mark)
        assert admission.contributions.is_empty()
        assert (admission.admitted, admission.late.rows()) == (1, [(D3, 0, 1)])


def test_a_late_reading_that_only_a_later_window_could_use_is_refused() -> None:
    """Nothing is said to be admitted that no window may use, now or later."""
    from_d4 = domain_of(water_product(), active_from={"daily-water": D4})
    assert rows_of(read(D3 + HOUR, domain=from_d4)) == {(OPENING, D4, 0), (OPENING, D5, 0)}
    admission = read(D3 + HOUR, domain=from_d4, mark=D4)
    assert (admission.contributions.height, admission.late.height) == (0, 0)
    assert reasons(admission) == {0: "no_product"}


def test_an_opening_value_is_under_the_receiving_windows_epoch() -> None:
    found = read(ms("2026-12-31 12:00")).contributions.sort("window")
    names = [point_pseudonyms(keys("housing", e), "energy-a", ["p"])[0] for e in ("2026", "2027", "2027")]
    assert found["point"].to_list() == names


def test_an_opening_value_goes_to_the_same_premises_only_as_it_is_when_the_window_begins() -> None:
    moved = site_table(("p", None, D4, "old", "C1", "flat", None), ("p", D4, None, "new", "C1", "flat", None))
    assert rows_of(read(D3 + HOUR, sites=moved)) == {(REGISTER, D3, 0)}
    closed = site_table(("p", None, D5, "old", "C1", "flat", None))
    assert rows_of(read(D3 + HOUR, sites=closed)) == {(REGISTER, D3, 0), (OPENING, D4, 0)}
    renamed = site_table(
        ("p", None, D4, "home", "C1", "flat", None), ("p", D4, None, "home", "C3", "house", None)
    )
    found = read(D3 + HOUR, sites=renamed).contributions.sort("window")
    assert found.select("area", "segment", "group").rows() == [("C1", "flat", 0)] + [("C3", "house", 1)] * 2


def test_the_closing_read_of_a_former_supplier_at_its_last_moment_has_no_site() -> None:
    closed = site_table(("p", None, D4, "home", "C1", "flat", None))
    assert reasons(read(D4, D4 - 1, sites=closed)) == {0: "no_site_then"}


def test_a_grant_at_a_windows_start_needs_an_opening_value_from_then_on() -> None:
    domain = domain_of(water_product(lawful_basis=CONSENT))
    table = consent_table(("p", "planning", D4, None, None))
    admission = read(D4 - 1, D4, D4 + 1, domain=domain, consents=table)
    assert reasons(admission) == {0: "not_yet_granted"}
    # the value at D4 closes D3, which came before the grant, but opens D4
    assert {r for r in rows_of(admission) if r[1] <= D4} == {(OPENING, D4, 1), (REGISTER, D4, 2)}
    assert admission.admitted == 2


def test_an_expiry_bounds_registers_to_the_moment_before_it() -> None:
    domain = domain_of(water_product(lawful_basis=CONSENT))
    table = consent_table(("p", "planning", D3, D4, None))
    assert reasons(read(D4 - 1, D4, domain=domain, consents=table)) == {1: "expired"}

"""What a changed consent or site record takes out of the open windows."""

from __future__ import annotations

import polars as pl
import pytest
from admission_world import (
    BY_MONTH,
    CONSENT,
    PARTNER,
    consent_table,
    domain_of,
    keys,
    ms,
    product,
    site_table,
)

from broker.core.calendar import Window
from broker.core.plan import Domain
from broker.core.pseudonym import point_pseudonyms, premises_pseudonyms
from broker.core.retractions import RETRACTIONS, consent_retractions, site_retractions
from broker.core.sites import SiteTable

D3, D4 = ms("2026-02-03 00:00"), ms("2026-02-04 00:00")
NAMES = ["p", "q", "gone", "home", "new", "other"]
EPOCHS = ["2026", "2027"]
SPAN = Window(ms("2026-01-31 00:00"), ms("2027-02-01 00:00"))
DOMAIN = domain_of(product("a", lawful_basis=CONSENT), product("b"), product("c", purpose="heating"))
HOME = ("p", None, None, "home", "C1", "flat", None)
ALL = 0b111


def _named(frame: pl.DataFrame, epoch: str) -> list[tuple[object, ...]]:
    """Rows of one epoch with names in place of pseudonyms: point, premises, bits, from_ms, group, and where there are
    such bounds, to_ms and granted_ms."""
    key = keys("housing", epoch)
    names = dict(zip(point_pseudonyms(key, PARTNER, NAMES), NAMES, strict=True))
    names |= dict(zip(premises_pseudonyms(key, "housing", NAMES), NAMES, strict=True))
    rows = [row for row in frame.iter_rows() if row[0] in names]
    found = [
        (names[point], names.get(home), bits, from_ms, group, *((to, granted) if to or granted else ()))
        for point, home, bits, from_ms, to, granted, group in rows
    ]
    return sorted(found, key=repr)


def named(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    """The same under each epoch's pseudonyms, and nothing else."""
    assert frame.schema == RETRACTIONS
    found = _named(frame, "2026")
    assert found == _named(frame, "2027")
    assert frame.height == 2 * len(found)
    return found


def of_consent(
    sites: SiteTable, *rows: tuple[object, ...], changed: str = "p", domain: Domain = DOMAIN
) -> list[tuple[object, ...]]:
    points, table = pl.Series([changed]), consent_table(*rows)
    return named(consent_retractions(points, sites, table, domain, span=SPAN, keys=keys))


def of_sites(former: SiteTable | None, sites: SiteTable, *changed: str) -> list[tuple[object, ...]]:
    points = pl.Series(changed or ["p"])
    return named(site_retractions(points, former, sites, DOMAIN, epochs=EPOCHS, keys=keys))


def test_a_withdrawal_takes_the_point_out_of_every_product_of_that_purpose() -> None:
    assert of_consent(site_table(HOME), ("p", "planning", D3, None, D4)) == [("p", None, 0b011, None, 0)]
    both = [("p", "planning", D3, None, None), ("p", "heating", None, None, D4)]
    assert of_consent(site_table(HOME), *both) == [
        ("p", None, 0b001, None, 0, D3, D3),
        ("p", None, 0b100, None, 0),
    ]


def test_a_record_without_a_grant_takes_the_point_out_of_products_by_consent() -> None:
    assert of_consent(site_table(HOME), ("p", "heating", D3, None, None)) == [("p", None, 0b001, None, 0)]
    assert of_consent(site_table(HOME), ("p", "planning", None, None, None)) == [("p", None, 0b001, None, 0)]


def test_a_grant_takes_out_what_began_before_it_of_products_by_consent() -> None:
    at_noon = D3 + 12 * 3_600_000
    granted = ("p", "planning", at_noon, D4, None)
    assert of_consent(site_table(HOME), granted) == [("p", None, 0b001, None, 0, D4, at_noon)]
    monthly = domain_of(
        product("a", lawful_basis=CONSENT), product("m", lawful_basis=CONSENT, window=BY_MONTH), product("z")
    )
    march = ms("2026-03-01 00:00")
    assert of_consent(site_table(HOME), granted, domain=monthly) == [
        ("p", None, 0b001, None, 0, D4, at_noon),
        ("p", None, 0b010, None, 0, march, at_noon),
    ]


def test_a_grant_at_a_windows_start_counts_from_that_window() -> None:
    assert of_consent(site_table(HOME), ("p", "planning", D3, D4, None)) == [
        ("p", None, 0b001, None, 0, D3, D3)
    ]


@pytest.mark.parametrize("granted", [SPAN.start, 0, -5, -(2**63)])
def test_a_grant_older_than_every_open_window_takes_nothing_out(granted: int) -> None:
    assert of_consent(site_table(HOME), ("p", "planning", granted, None, None)) == []


@pytest.mark.parametrize("granted", [SPAN.end, D3 * 1000, 2**63 - 1])
def test_a_grant_after_every_open_window_is_none_yet(granted: int) -> None:
    assert of_consent(site_table(HOME), ("p", "planning", granted, None, None)) == [
        ("p", None, 0b001, None, 0)
    ]


def test_an_expiry_takes_nothing_out() -> None:
    state = ("p", "planning", SPAN.start, D4, None)
    assert of_consent(site_table(HOME), state) == []


def test_each_group_in_which_the_point_ever_was_hears_of_a_withdrawal() -> None:
    moved = site_table(
        ("p", None, D3, "home", "C1", "flat", None), ("p", D3, None, "new", "C3", "flat", None)
    )
    withdrawn = ("p", "planning", D3, None, D4)
    assert of_consent(moved, withdrawn) == [("p", None, 0b011, None, 0), ("p", None, 0b011, None, 1)]
    assert of_consent(moved, ("q", "planning", D3, None, D4), changed="q") == []


def test_other_points_are_left_alone() -> None:
    sites = site_table(HOME, ("q", None, None, "other", "C1", "flat", None))
    assert of_consent(sites, ("p", "planning", D3, None, D4), ("q", "planning", D3, None, D4)) == [
        ("p", None, 0b011, None, 0)
    ]
    assert of_sites(site_table(HOME, ("q", None, None, "home", "C1", "flat", None)), sites, "p") == []


def test_a_replaced_premises_takes_out_what_the_point_gave_as_the_former_from_its_date() -> None:
    new = site_table(("p", None, D3, "home", "C1", "flat", None), ("p", D3, None, "new", "C1", "flat", None))
    assert of_sites(site_table(HOME), new) == [("p", "home", ALL, D3, 0)]
    corrected = site_table(("p", None, None, "new", "C1", "flat", None))
    assert of_sites(site_table(HOME), corrected) == [("p", "home", ALL, None, 0)]


def test_a_closed_site_takes_out_what_the_point_gave_after_it() -> None:
    assert of_sites(site_table(HOME), site_table(("p", None, D4, "home", "C1", "flat", None))) == [
        ("p", "home", ALL, D4, 0)
    ]
    later_begin = site_table(("p", D3, None, "home", "C1", "flat", None))
    assert of_sites(site_table(HOME), later_begin) == [("p", "home", ALL, None, 0)]


def test_a_move_to_another_group_is_told_to_the_former_group() -> None:
    moved = site_table(
        ("p", None, D3, "home", "C1", "flat", None), ("p", D3, None, "home", "C3", "flat", None)
    )
    assert of_sites(site_table(HOME), moved) == [("p", "home", ALL, D3, 0)]


def test_another_area_segment_or_a_new_period_of_the_same_home_takes_nothing_out() -> None:
    renamed = site_table(
        ("p", None, D3, "home", "C1", "flat", None), ("p", D3, None, "home", "C2", "house", None)
    )
    assert of_sites(site_table(HOME), renamed) == []
    assert of_sites(None, renamed) == []


def test_the_same_record_again_takes_nothing_out() -> None:
    history = site_table(
        ("p", None, D3, "home", "C1", "flat", None), ("p", D3, None, "new", "C3", "flat", None)
    )
    assert of_sites(history, history) == []


def test_without_the_former_record_each_closed_period_is_retracted_from_its_end() -> None:
    history = site_table(
        ("p", None, D3, "home", "C1", "flat", None), ("p", D3, D4, "new", "C3", "flat", None)
    )
    expected = [("p", "home", ALL, D3, 0), ("p", "new", ALL, D4, 1)]
    assert of_sites(None, history) == expected
    assert of_sites(site_table(("q", None, None, "x", "C1", "", None)), history) == expected
    assert of_sites(None, site_table(HOME)) == []


def test_a_contested_or_deleted_site_takes_all_of_the_point_out() -> None:
    twice = site_table(HOME, ("p", D3, None, "new", "C1", "flat", None))
    assert of_sites(site_table(HOME), twice) == [("p", "home", ALL, None, 0)]
    assert of_sites(site_table(HOME), site_table()) == [("p", "home", ALL, None, 0)]
    everywhere = [("p", None, ALL, None, 0), ("p", None, ALL, None, 1)]
    assert of_sites(None, twice) == everywhere
    assert of_sites(None, site_table()) == everywhere


def test_a_contested_point_that_is_mended_takes_nothing_out() -> None:
    twice = site_table(HOME, ("p", D3, None, "new", "C1", "flat", None))
    assert of_sites(twice, site_table(HOME)) == []

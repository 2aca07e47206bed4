"""What a synthetic territory consists of: sizes, shares and faults, all in one frozen value.

Invariants
- Nothing here is drawn: every random draw is made from the seed given to `generate`, so that one spec and one
  seed always make the same world.
- Shares are fractions in [0, 1]; `check` refuses a spec from which no world can be made.

The defaults are those of the demonstration: 8 EPCIs, 60 communes, 200 IRIS, 20,000 premises and 35 days of
daily readings of two utilities (1.4 million), with two days of half-hours in one EPCI.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from broker.core.errors import InputError

PURPOSES: Final = ("territorial-planning", "housing-vacancy", "energy-poverty")
"""Purposes of the three shipped policies: what a person may object to."""

SEGMENTS: Final = ("house", "flat")


@dataclass(frozen=True)
class Supplier:
    """An energy supplier that competes everywhere. share: of the premises, before switches."""

    name: str
    title: str
    share: float


@dataclass(frozen=True)
class Faults:
    """Shares of readings (or of meters) that something happens to."""

    duplicates: float = 0.004
    corrections: float = 0.003
    late: float = 0.002
    missing: float = 0.002
    estimated: float = 0.02
    stopped: float = 0.004  # of the meters: no more readings from some day on
    roll_over: float = 0.005  # of the water meters: the counter passes its size
    resets: float = 0.001  # of the water meters: exchanged without notice, the counter begins again
    drift: float = 0.005  # of the energy meters: reads more and more too high
    malformed: float = 0.00005  # each of four kinds, at least one per stream


@dataclass(frozen=True)
class TerritorySpec:
    """Sizes in areas, premises and days; shares of premises.

    half_hourly: (index of an EPCI, first day, days) in which energy points send half-hours instead of days.
    """

    name: str = "demo"
    epcis: int = 8
    communes: int = 60
    iris: int = 200
    premises: int = 20_000
    start: date = date(2026, 1, 1)
    days: int = 35
    timezone: str = "Europe/Paris"
    lanes: int = 4
    half_hourly: tuple[int, int, int] | None = (1, 10, 2)
    suppliers: tuple[Supplier, ...] = (
        Supplier("energy-a", "Énergie A", 0.37),
        Supplier("energy-b", "Énergie B", 0.33),
        Supplier("energy-c", "Énergie C", 0.30),
    )
    water: tuple[str, str] = ("water-n", "water-s")
    vacant: float = 0.08  # no use of either
    leaking: float = 0.04  # empty, energy low, water runs
    frost: float = 0.04  # empty, no water, heated against frost
    underheats: float = 0.08  # normal water, hardly any heating
    holidays: float = 0.12
    feed_in: float = 0.08  # of the houses
    switches: float = 0.01
    objections: float = 0.004
    faults: Faults = Faults()

    def check(self) -> None:
        """Raise InputError (`bad_spec`) for a territory that cannot be, such as one of empty areas."""
        problems = {
            "1 <= epcis <= communes <= iris <= premises": (
                1 <= self.epcis <= self.communes <= self.iris <= self.premises
            ),
            "1 <= days <= 366": 1 <= self.days <= 366,
            "lanes >= 1": self.lanes >= 1,
            "shares of homes sum to at most 1": (
                0 <= self.vacant + self.leaking + self.frost + self.underheats + self.switches <= 1
            ),
            "suppliers' shares sum to 1": abs(sum(s.share for s in self.suppliers) - 1) < 1e-9,
            "half_hourly lies in the territory": self.half_hourly is None
            or (self.half_hourly[0] < self.epcis and sum(self.half_hourly[1:]) <= self.days),
        }
        wrong = [rule for rule, holds in problems.items() if not holds]
        if wrong:
            raise InputError(
                "bad_spec", f"no such territory can be made; required: {'; '.join(wrong)}", where=self.name
            )

"""What the products of a domain say to a reading: may it count, for which of them, and if for none, why not.

Per product that takes the stream, the first line that holds:
1. it was not active (not yet, or not any more) when its own window began: it has no say (all silent: no_product);
2. one of its inputs that take the stream does not accept the quality: quality;
3. its lawful basis does not hold: as in `consent`;
4. it admits the reading.
A reading that no product admits carries the reason of the first active one, in the order of bits.

Invariants
- Bits are independent: what bit i says does not depend on which other products the domain has.
- Deny is the default: a reading whose quality is unknown, or of which no product speaks, counts for none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.core import consent as consent_rules
from broker.core.consent import Basis, States
from broker.core.plan import Domain, Stream

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.uint64]

ADMITTED: Final = 0
OUTCOMES: Final = (*consent_rules.OUTCOMES, "quality", "no_product")
"""A code is an index into this; those of consent keep their numbers."""
_QUALITY, _NO_PRODUCT = (np.uint8(OUTCOMES.index(code)) for code in ("quality", "no_product"))


@dataclass(frozen=True)
class _Taker:
    """A product that takes the stream. window: start of its own window, active: whether it runs then, both
    per base window; accepts: per reading, by quality; states: consent per point."""

    bit: np.uint64
    basis: Basis
    window: Ints
    active: Bools
    accepts: Bools
    states: States


@dataclass(frozen=True)
class Entitlement:
    """What the products say to (reading, base window) pairs. point, start, end: per reading."""

    point: Ints
    start: Ints
    end: Ints
    takers: tuple[_Taker, ...]

    def decide(self, row: Ints, window: Ints) -> tuple[Masks, Codes]:
        """(mask, code) per pair of a reading's index and a base window's: bit i of the mask set iff product i
        admits it; code = ADMITTED where the mask has a bit, else the reason."""
        point, start, end = self.point[row], self.start[row], self.end[row]
        mask = np.zeros(len(row), np.uint64)
        why = np.full(len(row), _NO_PRODUCT)
        for taker in self.takers:
            active = taker.active[window]
            said = taker.states.decide(taker.basis, point, start, end, taker.window[window])
            said = np.where(taker.accepts[row], said, _QUALITY)
            mask |= np.where(active & (said == ADMITTED), taker.bit, np.uint64(0))
            np.copyto(why, said, where=active & (why == _NO_PRODUCT))
        why[mask > 0] = ADMITTED
        return mask, why


def entitle(
    readings: pl.DataFrame,
    point: Ints,
    stream: Stream,
    domain: Domain,
    *,
    states: Callable[[str], States],
    edges: Ints,
) -> Entitlement:
    """The say of the domain's products about readings (readings frame) of one stream.

    point: index of each reading's delivery point in what `states` gives for a purpose; edges: starts of the
    base windows that are asked about, and the last one's end (ms).
    """
    quality = readings["quality"]
    windows = cache(lambda length: domain.calendar.floor(length, edges[:-1]))
    accepts = cache(lambda accepted: quality.is_in(sorted(accepted)).fill_null(False).to_numpy())
    states = cache(states)
    takers = []
    for product in domain.products:
        taking = [name for name, streams in product.inputs.items() if stream in streams]
        if taking:
            policy = product.policy
            # a bit speaks for all inputs of the product that take the stream, so all must accept the quality
            accepted = frozenset.intersection(*(frozenset(policy.inputs[name].qualities) for name in taking))
            window = windows(policy.window.length)
            active = (window >= product.active_from) & (window < product.active_until)
            basis, state = policy.lawful_basis.kind, states(policy.purpose)
            takers.append(
                _Taker(np.uint64(1 << product.bit), basis, window, active, accepts(accepted), state)
            )
    return Entitlement(point, readings["start"].to_numpy(), readings["end"].to_numpy(), tuple(takers))

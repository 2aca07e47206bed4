"""Since when each product counts: what a release lane knows of products by key, whatever the plan of the moment.

Invariants
- A product's life begins with the record that activates it and ends with the one that removes its activation.
  Being left out of the plan for a while (a key that is being replaced, a partner's record that is being corrected)
  ends no life: what is held for the product stays its own.
- Rows that precede a life are of an earlier one, or were made under another policy of that key: they count for
  nothing, because nobody tells a product that is not activated of a withdrawal.
- A product's windows begin where it begins to run: a window that had begun before, or that holds readings made
  before, is never its own, because part of it would be missing.
- Follows from the records of one contributions partition alone; `dump` and `load` carry it to a successor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from broker.core.plan import Domain, Plan, Product


@dataclass(frozen=True)
class Life:
    """since: place of the record that activated the product; policy: the digest that it ran under ("": it has not
    run yet); first: no window that starts before (ms) is its own (None: it has not run yet)."""

    since: int
    policy: str = ""
    first: int | None = None


class Lives:
    """The lives of all activated products, by key."""

    def __init__(self, lives: dict[str, Life] | None = None) -> None:
        self._lives = lives or {}

    def __contains__(self, name: str) -> bool:
        return name in self._lives

    def follow(self, plan: Plan, seq: int, first: Callable[[Domain, Product], int]) -> frozenset[str]:
        """Takes the plan of the record at `seq`; the products whose former life it ends. first: where the windows of a
        product that begins to run now can begin."""
        running = {
            product.key: (domain, product) for domain in plan.domains.values() for product in domain.products
        }
        before, self._lives = self._lives, {}
        for key in sorted(plan.activated):
            life, now = before.get(key), running.get(key)
            if life is None or (now and life.policy not in ("", now[1].digest)):
                life = Life(seq)
            if now and life.first is None:
                life = replace(life, policy=now[1].digest, first=first(*now))
            self._lives[key] = life
        return frozenset(
            key for key in before if self._lives.get(key, before[key]).since != before[key].since
        )

    def first(self, product: Product) -> int:
        """No window of the product, which runs, starts before (ms)."""
        began = self._lives[product.key].first
        assert began is not None, "a product that runs has begun"
        return max(began, product.active_from)

    def counts(self, name: str, seq: int) -> bool:
        """Whether a record at `seq` counts for this product."""
        return name in self._lives and seq >= self._lives[name].since

    def dump(self) -> dict[str, Any]:
        """JSON-ready, canonical."""
        return {name: [life.since, life.policy, life.first] for name, life in sorted(self._lives.items())}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Lives:
        return cls({name: Life(*values) for name, values in dumped.items()})

"""Since when each product counts: what a release lane knows of products by key, whatever the plan of the moment.

Invariants
- A product's life begins with the record that activates it and ends with the one that removes its activation.
  Being left out of the plan for a while (a key that is being replaced, a partner's record that is being corrected)
  ends no life: what is held for the product stays its own.
- Rows that precede a life are of an earlier one, or were made under another policy of that key: they count for
  nothing, because nobody tells a product that is not activated of a withdrawal.
- Follows from the records of one contributions partition alone; `dump` and `load` carry it to a successor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from broker.core.plan import Plan


@dataclass(frozen=True)
class Life:
    """since: place of the record that activated the product; policy: the digest that it ran under ("": it has not
    run yet)."""

    since: int
    policy: str = ""


class Lives:
    """The lives of all activated products, by key."""

    def __init__(self, lives: dict[str, Life] | None = None) -> None:
        self._lives = lives or {}

    def __contains__(self, name: str) -> bool:
        return name in self._lives

    def follow(self, plan: Plan, seq: int) -> frozenset[str]:
        """Takes the plan of the record at `seq`; the products whose former life it ends."""
        running = {p.key: p.digest for domain in plan.domains.values() for p in domain.products}
        before, self._lives = self._lives, {}
        for name in sorted(plan.activated):
            life, policy = before.get(name), running.get(name, "")
            if life is None or (policy and life.policy not in ("", policy)):
                life = Life(seq)
            self._lives[name] = replace(life, policy=policy or life.policy)
        return frozenset(
            name for name in before if self._lives.get(name, before[name]).since != before[name].since
        )

    def counts(self, name: str, seq: int) -> bool:
        """Whether a record at `seq` counts for this product."""
        return name in self._lives and seq >= self._lives[name].since

    def dump(self) -> dict[str, Any]:
        """JSON-ready, canonical."""
        return {name: [life.since, life.policy] for name, life in sorted(self._lives.items())}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Lives:
        return cls({name: Life(*values) for name, values in dumped.items()})

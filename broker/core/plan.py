"""What the active products of a territory come to: domains, their streams, and the bit of each product.

Invariants
- A territory has one release level: the index of the release group says in which lane a row is decided, whichever
  domain it is of.
- Everything in a domain is decided on the same base windows: products of one domain agree on base window,
  time zone and lateness, and on `max_gap` and `assign` of each measure. Where they do not,
  there is no plan: lateness belongs to the domain, because a base window closes once, for figure and roll-up
  alike.
- Products that take one stream, in whichever domains, agree on how its watermark moves (`plan_checks`).
- Versions of a product are products of their own, each for the windows that start in its span: a new one ends the
  one before it at a window's start, and takes none of its windows away.
- A product's bit is its index among the domain's products sorted by name and version; at most 63, so that a mask
  is never negative in any int64.
- Each partner of an input has at least one stream of that measure and kind, in that unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from broker.core.areas import AreaTree
from broker.core.calendar import LAST, Calendar, duration_ms
from broker.core.errors import InputError, Refused
from broker.core.plan_checks import agree, assign_start, max_gap, one_level, one_watermark
from broker.core.policy import Input, Policy, digest
from broker.core.readings import LONGEST_INTERVAL

MAX_PRODUCTS: Final = 63
OFFSET_BITS: Final = 48  # a million records a second for nine years, and thousands of streams beside them

N = TypeVar("N", int, npt.NDArray[np.int64])


@dataclass(frozen=True, order=True, slots=True)
class Stream:
    """One stream of one partner. kind: interval | register; unit: Wh | mL; net: values may be negative."""

    partner: str
    holding: str
    name: str
    measure: str
    kind: str
    unit: str
    net: bool = False

    @property
    def topic(self) -> str:
        return f"in.{self.partner}.{self.name}"


@dataclass(frozen=True)
class Activation:
    """A policy that runs for the windows that start in [active_from, active_until) (ms); references: dates
    (`2026-01-31`) of each named reference.
    """

    policy: Policy
    active_from: int
    references: Mapping[str, frozenset[str]] = field(default_factory=dict)
    active_until: int = LAST


@dataclass(frozen=True)
class Product:
    """An active policy in its domain. inputs: the streams of each input, sorted."""

    policy: Policy
    digest: str
    bit: int
    active_from: int
    inputs: dict[str, tuple[Stream, ...]]
    references: dict[str, frozenset[str]]
    group_level: str
    active_until: int = LAST

    @property
    def name(self) -> str:
        return self.policy.product

    @property
    def key(self) -> str:
        """What tells it from all others, its other versions included: `vacancy-monthly@2`."""
        return f"{self.policy.product}@{self.policy.version}"

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All contributing streams, each once, sorted: a window of the product waits for each of them."""
        return tuple(sorted({stream for streams in self.inputs.values() for stream in streams}))


@dataclass(frozen=True)
class Domain:
    """Products and streams that may be joined.

    base: PT1H | P1D; lateness: ms; assign_start: measures whose intervals belong wholly to the base window
    that holds their start; max_gap: ms, for each measure that arrives as a register; products sorted by name
    (bit = index); streams: all contributing, sorted.
    """

    name: str
    base: str
    lateness: int
    calendar: Calendar
    assign_start: frozenset[str]
    max_gap: dict[str, int]
    products: tuple[Product, ...]
    streams: tuple[Stream, ...]

    @property
    def group_level(self) -> str:
        """The level whose areas are decided as a whole; the same for all products of the territory."""
        return self.products[0].group_level

    def order(self, offset: N, stream: Stream) -> N:
        """What makes one of a partner's readings the last write: its offset, but among streams that may say the same
        of a point the topic first, because offsets of different topics mean nothing to each other."""
        line = stream.partner, stream.measure, stream.kind, stream.net
        alike = [s for s in self.streams if (s.partner, s.measure, s.kind, s.net) == line]
        return offset + (sum(other.topic < stream.topic for other in alike) << OFFSET_BITS)

    def overhang(self, stream: Stream) -> int:
        """ms after a base window's end by which an interval of it may end where the measure is assigned by start (a gas
        day ends at 06:00): no policy says by how much, so the longest interval. A mark speaks of what ends by it."""
        crosses = stream.kind == "interval" and stream.measure in self.assign_start
        return LONGEST_INTERVAL if crosses else 0

    def shut(self, end: N, stream: Stream) -> N:
        """The mark (ms) from which on base windows that end at `end` wait for a stream no more; what comes is late."""
        return end + (self.lateness + self.overhang(stream))


@dataclass(frozen=True)
class Plan:
    """domains: what runs, by name. waiting: products that are activated but may not run now, in domains of their own
    without streams: what takes back readings is addressed to them too, because they may run again. unreadable:
    keys of activated products whose policy does not even load.
    """

    domains: dict[str, Domain]
    areas: AreaTree
    waiting: tuple[Domain, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def activated(self) -> frozenset[str]:
        """Keys of all products that are activated, whether they run or not."""
        domains = (*self.domains.values(), *self.waiting)
        return frozenset(
            [*(product.key for domain in domains for product in domain.products), *self.unreadable]
        )

    @property
    def group_level(self) -> str | None:
        """The level whose areas are decided as a whole; None without any product."""
        levels = (domain.group_level for domain in (*self.domains.values(), *self.waiting))
        return next((level for level in levels if level in self.areas.levels), None)

    def products(self) -> dict[str, tuple[Domain, Product]]:
        """All products of all domains by name; of several versions the last."""
        return {
            product.name: (domain, product) for domain in self.domains.values() for product in domain.products
        }


def build_plan(
    policies: Iterable[Activation], streams: Iterable[Stream], areas: AreaTree, timezone: str
) -> Plan:
    """The plan of a territory; empty where no policy is active.

    Raises InputError (`bad_plan`) where files contradict each other, Refused (`domain_disagrees`,
    `watermark_disagrees`, `too_many_products`) where policies cannot run side by side; the message names product,
    field and who differs.
    """
    active = sorted(policies, key=_by_name)
    known = sorted(streams)
    for one, other in pairwise(active):
        if one.policy.product == other.policy.product and one.active_until > other.active_from:
            raise _bad(
                one.policy.product,
                "two active policies have this product's name at one time: a name is unique in the territory",
            )
    one_level([a.policy for a in active])
    domains = {}
    for name in sorted({a.policy.domain for a in active}):
        members = [a for a in active if a.policy.domain == name]
        domains[name] = _domain(name, members, known, areas, timezone)
    one_watermark(
        (product.policy, [stream.topic for stream in product.streams])
        for domain in domains.values()
        for product in domain.products
    )
    return Plan(domains, areas)


def waiting_domains(left_out: Iterable[Activation], timezone: str) -> tuple[Domain, ...]:
    """Activated products that may not run, as domains without streams, each of at most `MAX_PRODUCTS`."""
    found = []
    for name, group in groupby(sorted(left_out, key=_by_domain), lambda a: a.policy.domain):
        every = list(group)
        for first in range(0, len(every), MAX_PRODUCTS):
            members = every[first : first + MAX_PRODUCTS]
            window = members[0].policy.window
            products = tuple(
                Product(
                    a.policy,
                    digest(a.policy),
                    bit,
                    a.active_from,
                    {},
                    {},
                    a.policy.areas.group,
                    a.active_until,
                )
                for bit, a in enumerate(members)
            )
            calendar, lateness = Calendar(timezone), duration_ms(window.lateness)
            found.append(Domain(name, window.base, lateness, calendar, frozenset(), {}, products, ()))
    return tuple(found)


def _by_name(activation: Activation) -> tuple[str, int]:
    return activation.policy.product, activation.policy.version


def _by_domain(activation: Activation) -> tuple[str, str, int]:
    return activation.policy.domain, *_by_name(activation)


def _domain(
    name: str, members: list[Activation], known: list[Stream], areas: AreaTree, timezone: str
) -> Domain:
    if len(members) > MAX_PRODUCTS:
        raise Refused(
            "too_many_products",
            f"{len(members)} active products; a domain holds {MAX_PRODUCTS}: split the domain or retire "
            f"products",
            where=f"domain {name}",
        )
    policies = [a.policy for a in members]
    agree(name, "window.timezone", [(p.product, p.window.timezone) for p in policies])
    base = agree(name, "window.base", [(p.product, p.window.base) for p in policies])
    lateness = agree(name, "window.lateness", [(p.product, duration_ms(p.window.lateness)) for p in policies])
    products = tuple(_product(bit, a, known, areas, timezone) for bit, a in enumerate(members))
    return Domain(
        name=name,
        base=base,
        lateness=lateness,
        calendar=Calendar(timezone),
        assign_start=assign_start(name, policies),
        max_gap=max_gap(name, policies),
        products=products,
        streams=tuple(sorted({stream for product in products for stream in product.streams})),
    )


def _product(bit: int, active: Activation, known: list[Stream], areas: AreaTree, timezone: str) -> Product:
    policy = active.policy
    if policy.window.timezone != timezone:
        raise _bad(
            policy.product, f"window.timezone is {policy.window.timezone}, the territory's is {timezone}"
        )
    _check_areas(policy, areas)
    inputs = {name: _streams_of(policy, name, spec, known) for name, spec in sorted(policy.inputs.items())}
    _check_waivers(policy, inputs, areas)
    absent = sorted(set(policy.references) - set(active.references))
    if absent:
        raise _bad(policy.product, f"the dates of reference {', '.join(absent)} were not given: add its file")
    return Product(
        policy=policy,
        digest=digest(policy),
        bit=bit,
        active_from=active.active_from,
        inputs=inputs,
        references={name: active.references[name] for name in sorted(policy.references)},
        group_level=policy.areas.group,
        active_until=active.active_until,
    )


def _streams_of(policy: Policy, name: str, spec: Input, known: list[Stream]) -> tuple[Stream, ...]:
    found = []
    for partner in spec.partners:
        own = [s for s in known if s.partner == partner and s.measure == spec.measure and s.kind == spec.kind]
        if not own:
            raise _bad(
                policy.product,
                f"inputs.{name} names partner {partner}, which has no {spec.kind} stream of {spec.measure}: "
                "correct the policy, or the partner's file",
            )
        for stream in own:
            if stream.unit != spec.smallest:
                raise _bad(
                    policy.product,
                    f"inputs.{name} is in {spec.smallest}, but {stream.topic} is in {stream.unit}",
                )
            if stream.net and not spec.net:
                raise _bad(
                    policy.product,
                    f"{stream.topic} may be negative (net): inputs.{name} must say `net: true`",
                )
        found += own
    return tuple(sorted(found))


def _check_areas(policy: Policy, areas: AreaTree) -> None:
    if policy.areas.hierarchy != areas.hierarchy:
        raise _bad(
            policy.product,
            f"areas.hierarchy is {policy.areas.hierarchy}, the territory's is {areas.hierarchy}",
        )
    levels = [*dict.fromkeys((*policy.areas.levels, policy.areas.group))]
    unknown = [level for level in levels if level not in areas.levels]
    if unknown:
        raise _bad(
            policy.product,
            f"areas: {areas.hierarchy} has no level {', '.join(unknown)}; it has {', '.join(areas.levels)}",
        )
    for fine, coarse in pairwise(levels):
        outside = areas.outside(fine, coarse)
        if outside:
            raise _bad(
                policy.product,
                f"areas.levels goes from fine to coarse, up to areas.group, but {fine} `{outside[0]}` lies in no "
                f"{coarse} ({len(outside)} such)",
            )


def _check_waivers(policy: Policy, inputs: dict[str, tuple[Stream, ...]], areas: AreaTree) -> None:
    for waiver in policy.disclosure.waivers:
        lost = sorted(set(waiver.areas) - set(policy.areas.levels) - set(areas.codes))
        if lost:
            raise _bad(
                policy.product,
                f"a waiver names {', '.join(lost)}: neither a level of the policy nor an area of "
                f"{areas.hierarchy}",
            )
        holdings = sorted({stream.holding for stream in inputs[waiver.column]})
        if waiver.holding not in holdings:
            raise _bad(
                policy.product,
                f"a waiver names holding {waiver.holding}, which does not contribute to {waiver.column}: "
                f"{', '.join(holdings)} do",
            )


def _bad(product: str, what: str) -> InputError:
    return InputError("bad_plan", what, where=f"product {product}")

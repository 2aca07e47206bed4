"""A territory's areas: one hierarchy with its vintage (IRIS ⊂ commune ⊂ EPCI), checked once.

Invariants
- Every area has at most one parent, which exists; there is no cycle; on the way to the top every level occurs
  once. So every area lies in at most one area of each level.
- Codes are compared as text (`01004` is not `1004`) and sorted by code point: an index in `groups(level)`
  means the same area on every machine.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import Final

import polars as pl
import rfc8785

from broker.core.errors import InputError

COLUMNS: Final = ("area", "parent", "level")


class AreaTree:
    """The checked hierarchy. Build it with `from_rows`.

    hierarchy: its name and vintage (`iris-2026`); codes: all codes, sorted.
    ancestors: DataFrame[area, level, ancestor], all String: every area with itself and each area above it;
    `level` is the ancestor's. Sorted by area, nearest ancestor first.
    """

    def __init__(self, hierarchy: str, parents: dict[str, str | None], levels: dict[str, str]) -> None:
        self.hierarchy = hierarchy
        self.codes: list[str] = sorted(parents)
        self._parents = parents
        self._levels = levels
        chains = [(code, above) for code in self.codes for above in self._chain(code)]
        self.ancestors = pl.DataFrame(
            {
                "area": [code for code, _ in chains],
                "level": [levels[above] for _, above in chains],
                "ancestor": [above for _, above in chains],
            },
            schema={"area": pl.String, "level": pl.String, "ancestor": pl.String},
        )

    @classmethod
    def from_rows(cls, hierarchy: str, rows: pl.DataFrame) -> AreaTree:
        """Check DataFrame[area, parent, level] (String; parent null or empty = top; other columns are
        ignored).

        Raises InputError (`bad_areas`) naming the offending codes where a column, a code or a level is
        missing, a code occurs twice, a parent is unknown, parents form a cycle or a level recurs on the way
        to the top.
        """
        where = f"areas of {hierarchy}"
        missing = [column for column in COLUMNS if column not in rows.columns]
        if missing:
            raise _bad(where, f"column {', '.join(missing)} missing: the columns are {','.join(COLUMNS)}")
        texts = rows.select(
            pl.col(column).cast(pl.String).fill_null("").str.strip_chars() for column in COLUMNS
        )
        if texts.is_empty():
            raise _bad(where, "there is no area at all")
        parents: dict[str, str | None] = {}
        levels: dict[str, str] = {}
        for area, parent, level in texts.iter_rows():
            parents[area] = parent or None
            levels[area] = level
        _check(where, texts, parents, levels)
        return cls(hierarchy, parents, levels)

    def level(self, code: str) -> str:
        """Level of an area; InputError (`area_not_in_hierarchy`) where there is no such area."""
        return self._levels[self._existing(code)]

    def parent(self, code: str) -> str | None:
        """The area above, None at the top; InputError (`area_not_in_hierarchy`) where there is no such
        area.
        """
        return self._parents[self._existing(code)]

    @property
    def levels(self) -> list[str]:
        """All levels, sorted by name."""
        return sorted(set(self._levels.values()))

    def groups(self, level: str) -> list[str]:
        """Codes of a level, sorted; InputError (`bad_areas`) where the hierarchy has no such level."""
        found = [code for code in self.codes if self._levels[code] == level]
        if not found:
            raise _bad(
                f"areas of {self.hierarchy}",
                f"there is no level `{level}`: the levels are {', '.join(self.levels)}",
            )
        return found

    def group_of(self, level: str) -> pl.DataFrame:
        """DataFrame[area, group]: every area that lies in (or is) an area of that level, sorted by area."""
        self.groups(level)
        return self.ancestors.filter(pl.col("level") == level).select("area", group="ancestor")

    def outside(self, level: str, within: str) -> list[str]:
        """Areas of `level` that lie in no area of level `within`, sorted: empty where the levels nest."""
        inside = set(self.group_of(within)["area"])
        return [code for code in self.groups(level) if code not in inside]

    def digest(self) -> str:
        """`sha256:<hex>` of {hierarchy, rows: [[area, parent | null, level]]} sorted by area, RFC 8785."""
        rows = [[code, self._parents[code], self._levels[code]] for code in self.codes]
        return "sha256:" + sha256(rfc8785.dumps({"hierarchy": self.hierarchy, "rows": rows})).hexdigest()

    def __contains__(self, code: object) -> bool:
        return code in self._parents

    def _existing(self, code: str) -> str:
        if code not in self._parents:
            raise InputError(
                "area_not_in_hierarchy",
                f"there is no area `{code}` in {self.hierarchy}: correct the code, or the areas file",
            )
        return code

    def _chain(self, code: str) -> list[str]:
        chain, at = [code], self._parents[code]
        while at is not None:
            chain.append(at)
            at = self._parents[at]
        return chain


def _bad(where: str, what: str) -> InputError:
    return InputError("bad_areas", what, where=where)


def _some(codes: list[str]) -> str:
    shown = ", ".join(f"`{code}`" for code in sorted(codes)[:5])
    return shown if len(codes) <= 5 else f"{shown} and {len(codes) - 5} more"


def _check(where: str, texts: pl.DataFrame, parents: dict[str, str | None], levels: dict[str, str]) -> None:
    if "" in parents:
        raise _bad(where, f"row {texts['area'].to_list().index('') + 1} has no area code")
    twice = [code for code, count in Counter(texts["area"]).items() if count > 1]
    if twice:
        raise _bad(where, f"{_some(twice)} occurs more than once: an area has one row")
    nameless = [code for code, level in levels.items() if not level]
    if nameless:
        raise _bad(where, f"{_some(nameless)} has no level")
    orphans = [
        f"{code} → {parent}"
        for code, parent in parents.items()
        if parent is not None and parent not in parents
    ]
    if orphans:
        raise _bad(where, f"unknown parent: {_some(orphans)}: add the parent's row, or correct the code")
    for code in parents:
        _check_way_up(where, code, parents, levels)


def _check_way_up(where: str, code: str, parents: dict[str, str | None], levels: dict[str, str]) -> None:
    passed = {code}
    seen = {levels[code]}
    at = parents[code]
    while at is not None:
        if at in passed:
            raise _bad(where, f"the parents of `{code}` form a cycle through `{at}`")
        if levels[at] in seen:
            raise _bad(
                where, f"`{code}` has two areas of level `{levels[at]}` above or at itself: levels must nest"
            )
        passed.add(at)
        seen.add(levels[at])
        at = parents[at]

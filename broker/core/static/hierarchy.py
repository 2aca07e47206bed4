"""The tree of a dimension's codes under `Total`, checked once.

Invariants
- Every code but `Total` has one parent, which is a code of the tree or `Total`; there is no cycle. So every code lies
  in exactly one code of each generation above it.
- Codes are compared as text (`01` is not `1`) and come in the tree's own order: each before what lies in it, siblings
  by code point. The order of the file's rows decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from broker.core.errors import InputError
from broker.core.static.spec import TOTAL

COLUMNS = ("child", "parent")


@dataclass(frozen=True)
class Hierarchy:
    """codes: `Total` first, each code before what lies in it; parents: of each code the index of its parent, -1 for
    `Total`."""

    codes: tuple[str, ...]
    parents: tuple[int, ...]

    @classmethod
    def flat(cls, codes: Iterable[str]) -> Hierarchy:
        """All codes directly under `Total`."""
        return _ordered(dict.fromkeys(codes, TOTAL))

    @classmethod
    def from_rows(cls, rows: pl.DataFrame, where: str) -> Hierarchy:
        """Check DataFrame[child, parent] of String.

        A row of `Total` without a parent may be there. Raises InputError (`bad_hierarchy`) that names `where` and the
        codes: an empty code, two parents, an unknown parent, a cycle, a parent of `Total`.
        """
        pairs = rows.select(COLUMNS).unique(maintain_order=True)
        parents: dict[str, str] = {}
        for child, parent in pairs.iter_rows():
            if not child or (not parent and child != TOTAL):
                raise _bad(where, f"`{child or parent}` stands in a row of one code: a row is child,parent")
            if child in parents:
                raise _bad(where, f"`{child}` has two parents, `{parents[child]}` and `{parent}`: keep one")
            parents[child] = parent or ""
        if parents.pop(TOTAL, ""):
            raise _bad(where, f"`{TOTAL}` has a parent: it names the root, above everything")
        if not parents:
            raise _bad(
                where, f"there is no code at all: write rows child,parent, of the topmost with parent {TOTAL}"
            )
        for child in parents:
            _check_way_up(child, parents, where)
        return _ordered(parents)

    @cached_property
    def number(self) -> dict[str, int]:
        """The index of each code."""
        return {code: i for i, code in enumerate(self.codes)}

    @cached_property
    def ancestors(self) -> pl.DataFrame:
        """DataFrame[code Int32, ancestor Int32]: each code with itself and each code above it."""
        parent = np.array(self.parents)
        code = at = np.arange(len(parent))
        found: list[NDArray[np.int64]] = []
        while len(at):
            found.append(np.stack((code, at)))
            code, at = code[parent[at] >= 0], parent[at][parent[at] >= 0]
        codes, above = np.concatenate(found, axis=1)
        return pl.DataFrame(
            {"code": codes, "ancestor": above}, schema={"code": pl.Int32, "ancestor": pl.Int32}
        )

    @cached_property
    def generations(self) -> NDArray[np.int64]:
        """Of each code how many codes it has above itself, and itself: `Total` 1."""
        counted = self.ancestors.group_by("code").len().sort("code")["len"]
        return counted.cast(pl.Int64).to_numpy()


def _ordered(parents: dict[str, str]) -> Hierarchy:
    children: dict[str, list[str]] = {}
    for child in sorted(parents, reverse=True):
        children.setdefault(parents[child], []).append(child)
    codes: list[str] = []
    waiting = [TOTAL]
    while waiting:
        codes.append(waiting.pop())
        waiting += children.get(codes[-1], [])
    number = {code: i for i, code in enumerate(codes)}
    return Hierarchy(tuple(codes), (-1, *(number[parents[code]] for code in codes[1:])))


def _check_way_up(child: str, parents: dict[str, str], where: str) -> None:
    passed = {child: None}  # in the order of the way
    at = parents[child]
    while at != TOTAL:
        if at in passed:
            way = [*passed]
            cycle = " in ".join(f"`{code}`" for code in [*way[way.index(at) :][:5], at])
            raise _bad(where, f"codes form a cycle, {cycle}: each must lie in {TOTAL} in the end")
        if at not in parents:
            raise _bad(
                where,
                f"`{at}` is a parent, but lies itself in nothing: add a row {at},{TOTAL} (or its true parent), or "
                "correct the code",
            )
        passed[at] = None
        at = parents[at]


def _bad(where: str, what: str) -> InputError:
    return InputError("bad_hierarchy", what, where=where)

"""The tables of release groups: their cells, and the atoms that every cell is a sum of.

Invariants
- A cell exists iff at least one eligible premises lies in it (for joint counts: eligible, not counted).
- An *atom* is a class of premises that all cells of the table treat alike: (the lowest area of the policy's
  levels that holds the premises, segment). Sites may hang at any level of the tree: premises attached to a
  commune itself form an atom of the commune, beside those of its IRIS.
- Such an atom is no cell of the table, yet commune less its IRIS gives it away. Where an area has both
  premises of its own and premises further down, *hidden cells* (area, segment) and (area, margin) stand for
  the former: judged like the others, never published.
- Premises outside the release groups are no part of the table; a level above the group has no cells in it. The
  group itself has cells only where its level is one of the policy's.
- The tables of several groups are kept as one, to be computed in one pass. No cell and no atom belongs to two
  of them: what is true of one group's rows does not depend on the others'.
- Cells come in the order (policy's level order, area, segment), hidden ones last; atoms in the order
  (area, segment). Nothing depends on the order of the rows given.
- A table follows from the places alone, which hardly change from window to window: the latest are kept.

Source: Hundepool et al., Handbook on Statistical Disclosure Control, ch. 4 (hierarchical tables).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from broker.core.areas import AreaTree
from broker.core.coded import of_texts
from broker.core.errors import ProgrammerError

MARGIN = "*"

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """Cells over atoms; both are named by their index.

    cells: DataFrame[group, area, level, segment, hidden: Boolean], one row per cell.
    places: (area, segment), as sites have them, -> atom.
    starts, members: the cells of atom a are members[starts[a]:starts[a + 1]], ascending.
    """

    cells: pl.DataFrame
    places: dict[tuple[str, str], int]
    starts: IntArray
    members: IntArray

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return len(self.starts) - 1

    @cached_property
    def hidden(self) -> BoolArray:
        """Per cell: never published, only judged."""
        return self.cells["hidden"].to_numpy()

    @cached_property
    def names(self) -> list[tuple[str, str, str, bool]]:
        """Area, level, segment and `hidden` of each cell."""
        return self.cells.select("area", "level", "segment", "hidden").rows()

    @cached_property
    def visible(self) -> pl.DataFrame:
        """The cells that may be published, which come first: DataFrame[group, area, level, segment]."""
        return self.cells.filter(~pl.col("hidden")).drop("hidden")

    def of_group(self, group: str) -> IntArray:
        """The cells of one release group, ascending."""
        return np.flatnonzero(self.cells["group"] == group)

    def incidence(self, cells: IntArray | None = None) -> NDArray[np.int8]:
        """The 0/1 matrix cells × atoms: a cell's figure is its row times the atoms' figures.

        cells: those wanted (default: all); atoms: those that lie in any of them."""
        chosen = np.arange(self.cells.height) if cells is None else cells
        row = np.full(self.cells.height, -1)
        row[chosen] = np.arange(len(chosen))
        inside = row[self.members] >= 0
        _, column = np.unique(self._owners[inside], return_inverse=True)
        matrix = np.zeros((len(chosen), 1 + column.max(initial=-1)), dtype=np.int8)
        matrix[row[self.members[inside]], column] = 1
        return matrix

    def locate(self, rows: pl.DataFrame) -> IntArray:
        """Per row its atom; -1 for rows that lie outside the table. rows: DataFrame[area, segment, ...]."""
        areas, segments, grid = self._grid
        area, segment = of_texts(rows["area"]), of_texts(rows["segment"])
        at_area = np.array([areas.get(name, -1) for name in area.names], dtype=np.int64)
        at_segment = np.array([segments.get(name, -1) for name in segment.names], dtype=np.int64)
        atoms: IntArray = grid[at_area[area.codes], at_segment[segment.codes]]
        return atoms

    def count(self, rows: pl.DataFrame) -> IntArray:
        """How many of the rows lie in each cell. rows: DataFrame[area, segment, ...]."""
        atoms = self.locate(rows)
        per_cell: IntArray = self.add(np.bincount(atoms[atoms >= 0], minlength=self.atoms))
        return per_cell

    def spread(self, atoms: IntArray) -> tuple[IntArray, IntArray]:
        """All pairs (row, cell) such that the atom of that row lies in that cell, rows ascending."""
        first, size = self.starts[atoms], np.diff(self.starts)[atoms]
        row = np.repeat(np.arange(len(atoms), dtype=np.int64), size)
        offset = np.arange(len(row), dtype=np.int64) - np.repeat(np.cumsum(size) - size, size)
        return row, self.members[np.repeat(first, size) + offset]

    def add(self, figures: NDArray[Any]) -> NDArray[Any]:
        """The cells' figures from those of the atoms, in the same type. figures: one row per atom."""
        atoms, starts = self._by_cell
        return np.add.reduceat(figures[atoms], starts, axis=0) if len(starts) else figures[:0]

    @cached_property
    def _owners(self) -> IntArray:
        """The atom of each entry of `members`."""
        return np.repeat(np.arange(self.atoms), np.diff(self.starts))

    @cached_property
    def _by_cell(self) -> tuple[IntArray, IntArray]:
        """The atoms of all cells, cell after cell, and where each cell begins; every cell has an atom."""
        order = np.argsort(self.members, kind="stable")
        return self._owners[order], np.searchsorted(self.members[order], np.arange(self.cells.height))

    @cached_property
    def _grid(self) -> tuple[dict[str, int], dict[str, int], IntArray]:
        """Areas, segments, and the atom of each pair; -1, also as the last of either, for none."""
        areas = {area: i for i, area in enumerate(sorted({area for area, _ in self.places}))}
        segments = {segment: i for i, segment in enumerate(sorted({segment for _, segment in self.places}))}
        grid = np.full((len(areas) + 1, len(segments) + 1), -1, dtype=np.int64)
        for (area, segment), atom in self.places.items():
            grid[areas[area], segments[segment]] = atom
        return areas, segments, grid


def build(
    eligible: pl.DataFrame, areas: AreaTree, levels: Sequence[str], groups: Sequence[str], *, segmented: bool
) -> Table:
    """The tables of `groups` for the eligible premises.

    eligible: DataFrame[area, segment, ...]; levels: the policy's, in its order; segmented: whether the
    product has the dimension `segment` (otherwise there are margins only). Raises ProgrammerError where a
    site's segment is the sign of the margin: admission refuses such sites."""
    pairs = frozenset(eligible.select("area", "segment").unique().iter_rows())
    return _build(pairs, areas, tuple(levels), frozenset(groups), segmented)


@lru_cache(maxsize=64)  # of a function without effects: a lane asks for few tables, day after day
def _build(
    places: frozenset[tuple[str, str]],
    areas: AreaTree,
    levels: tuple[str, ...],
    groups: frozenset[str],
    segmented: bool,
) -> Table:
    pairs = sorted(places)
    if any(segment == MARGIN for _, segment in pairs):
        raise ProgrammerError(
            "segment_is_margin", f"a site has the segment {MARGIN!r}, which names the margin"
        )
    found = {area: _chain(area, areas, levels, groups) for area in {area for area, _ in pairs}}
    chains = {area: chain for area, (chain, _) in found.items()}
    place = {(area, s): (chains[area][0], s if segmented else MARGIN) for area, s in pairs if chains[area]}
    atoms = sorted(set(place.values()))
    index = {atom: i for i, atom in enumerate(atoms)}
    above = {chain[0]: chain for chain in chains.values() if chain}
    group_of = {area: group for chain, group in found.values() for area in chain}
    inner = {upper for chain in above.values() for upper in chain[1:] if upper in above}
    rank = {level: i for i, level in enumerate(levels)}
    level_of = {area: areas.level(area) for chain in above.values() for area in chain}

    homes = [_homes(area, segment, above[area], area in inner) for area, segment in atoms]
    keys = sorted(
        {key for home in homes for key in home}, key=lambda k: (k[2], rank[level_of[k[0]]], k[0], k[1])
    )
    number = {key: i for i, key in enumerate(keys)}
    members = [sorted(number[key] for key in home) for home in homes]
    return Table(
        cells=pl.DataFrame(
            {
                "group": [group_of[area] for area, _, _ in keys],
                "area": [area for area, _, _ in keys],
                "level": [level_of[area] for area, _, _ in keys],
                "segment": [segment for _, segment, _ in keys],
                "hidden": [hidden for _, _, hidden in keys],
            },
            schema={
                "group": pl.String,
                "area": pl.String,
                "level": pl.String,
                "segment": pl.String,
                "hidden": pl.Boolean,
            },
        ),
        places={at: index[atom] for at, atom in place.items()},
        starts=_fixed([0, *accumulate(map(len, members))]),
        members=_fixed([cell for home in members for cell in home]),
    )


def _fixed(numbers: list[int]) -> IntArray:
    array = np.array(numbers, dtype=np.int64)
    array.setflags(write=False)
    return array


def _homes(area: str, segment: str, chain: Sequence[str], inner: bool) -> set[tuple[str, str, bool]]:
    """The cells (area, segment, hidden) that hold the atom."""
    visible = {(upper, part, False) for upper in chain for part in (segment, MARGIN)}
    return visible | {(area, part, True) for part in (segment, MARGIN)} if inner else visible


def _chain(
    area: str, areas: AreaTree, levels: Sequence[str], groups: frozenset[str]
) -> tuple[list[str], str]:
    """The area and those above it up to its release group, as far as they are cells, lowest first; the group."""
    chain: list[str] = []
    at: str | None = area
    while at is not None:
        if areas.level(at) in levels:
            chain.append(at)
        if at in groups:
            return chain, at
        at = areas.parent(at)
    return [], ""  # the area lies outside the groups

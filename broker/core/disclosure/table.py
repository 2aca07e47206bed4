"""The table of one release group: its cells, and the atoms that every cell is a sum of.

Invariants
- A cell exists iff at least one eligible premises lies in it (for joint counts: eligible, not counted).
- An *atom* is a class of premises that all cells of the table treat alike: (the lowest area of the policy's
  levels that holds the premises, segment). Sites may hang at any level of the tree: premises attached to a
  commune itself form an atom of the commune, beside those of its IRIS.
- Such an atom is no cell of the table, yet commune less its IRIS gives it away. Where an area has both
  premises of its own and premises further down, *hidden cells* (area, segment) and (area, margin) stand for
  the former: judged like the others, never published.
- Premises outside the release group are no part of its table; a level above the group has no cells in it.
- Cells come in the order (policy's level order, area, segment), hidden ones last; atoms in the order
  (area, segment). Nothing depends on the order of the rows given.

Source: Hundepool et al., Handbook on Statistical Disclosure Control, ch. 4 (hierarchical tables).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from broker.core.areas import AreaTree
from broker.core.errors import ProgrammerError

MARGIN = "*"

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """Cells over atoms; both are named by their index.

    cells: DataFrame[area, level, segment, hidden: Boolean], one row per cell.
    places: DataFrame[area, segment, atom: Int64], (area, segment) as sites have them; for joins.
    starts, members: the cells of atom a are members[starts[a]:starts[a + 1]], ascending.
    """

    cells: pl.DataFrame
    places: pl.DataFrame
    starts: IntArray
    members: IntArray

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return len(self.starts) - 1

    @property
    def hidden(self) -> BoolArray:
        """Per cell: never published, only judged."""
        return self.cells["hidden"].to_numpy()

    def incidence(self) -> NDArray[np.int8]:
        """The 0/1 matrix cells × atoms: a cell's figure is its row times the atoms' figures."""
        matrix = np.zeros((self.cells.height, self.atoms), dtype=np.int8)
        matrix[self.members, np.repeat(np.arange(self.atoms), np.diff(self.starts))] = 1
        return matrix

    def locate(self, rows: pl.DataFrame) -> pl.DataFrame:
        """`rows` with the column `atom`; rows that lie outside the table are left out."""
        return rows.join(self.places, on=["area", "segment"], how="inner", maintain_order="left")

    def spread(self, atoms: IntArray) -> tuple[IntArray, IntArray]:
        """All pairs (row, cell) such that the atom of that row lies in that cell, rows ascending."""
        first, size = self.starts[atoms], np.diff(self.starts)[atoms]
        row = np.repeat(np.arange(len(atoms), dtype=np.int64), size)
        offset = np.arange(len(row), dtype=np.int64) - np.repeat(np.cumsum(size) - size, size)
        return row, self.members[np.repeat(first, size) + offset]


def build(
    eligible: pl.DataFrame, areas: AreaTree, levels: Sequence[str], group: str, *, segmented: bool
) -> Table:
    """The table of `group` for the eligible premises.

    eligible: DataFrame[area, segment, ...]; levels: the policy's, in its order; segmented: whether the
    product has the dimension `segment` (otherwise there are margins only). Raises ProgrammerError where a
    site's segment is the sign of the margin: admission refuses such sites."""
    pairs = sorted(eligible.select("area", "segment").unique().iter_rows())
    if any(segment == MARGIN for _, segment in pairs):
        raise ProgrammerError(
            "segment_is_margin", f"a site has the segment {MARGIN!r}, which names the margin"
        )
    chains = {area: _chain(area, areas, levels, group) for area in {area for area, _ in pairs}}
    place = {(area, s): (chains[area][0], s if segmented else MARGIN) for area, s in pairs if chains[area]}
    atoms = sorted(set(place.values()))
    index = {atom: i for i, atom in enumerate(atoms)}
    above = {chain[0]: chain for chain in chains.values() if chain}
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
                "area": [area for area, _, _ in keys],
                "level": [level_of[area] for area, _, _ in keys],
                "segment": [segment for _, segment, _ in keys],
                "hidden": [hidden for _, _, hidden in keys],
            },
            schema={"area": pl.String, "level": pl.String, "segment": pl.String, "hidden": pl.Boolean},
        ),
        places=pl.DataFrame(
            [(area, segment, index[atom]) for (area, segment), atom in place.items()],
            schema={"area": pl.String, "segment": pl.String, "atom": pl.Int64},
            orient="row",
        ),
        starts=np.cumsum([0, *map(len, members)], dtype=np.int64),
        members=np.array([cell for home in members for cell in home], dtype=np.int64),
    )


def _homes(area: str, segment: str, chain: Sequence[str], inner: bool) -> set[tuple[str, str, bool]]:
    """The cells (area, segment, hidden) that hold the atom."""
    visible = {(upper, part, False) for upper in chain for part in (segment, MARGIN)}
    return visible | {(area, part, True) for part in (segment, MARGIN)} if inner else visible


def _chain(area: str, areas: AreaTree, levels: Sequence[str], group: str) -> list[str]:
    """The area and those above it as far as they are cells of the group's table, lowest first."""
    chain: list[str] = []
    at: str | None = area
    while at is not None:
        if areas.level(at) in levels:
            chain.append(at)
        if at == group:
            return chain
        at = areas.parent(at)
    return []  # the area lies outside the group

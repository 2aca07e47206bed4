"""Small static tables: microdata at random, and the truth about any set of their rows in plain Python."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import polars as pl

from broker.core.static.cells import Tables, build
from broker.core.static.hierarchy import Hierarchy
from broker.core.static.judge import Contributions
from broker.core.static.microdata import Microdata
from broker.core.static.spec import TOTAL, Rules


@dataclass(frozen=True)
class Row:
    codes: Mapping[str, str]
    contributor: int
    holding: int
    value: int
    weight: int = 1


@dataclass
class World:
    """rows; parents: dimension → child → parent; tables: name → dimension → which of `parents`."""

    rows: list[Row]
    parents: dict[str, dict[str, str]]
    tables: dict[str, dict[str, str]] = field(default_factory=dict)

    def above(self, tree: str, code: str) -> list[str]:
        """The code and all above it."""
        found = [code]
        while found[-1] != TOTAL:
            found.append(self.parents[tree][found[-1]])
        return found

    def cells(self, table: str) -> dict[tuple[str, ...], frozenset[int]]:
        """Codes → the rows in the cell."""
        found: dict[tuple[str, ...], set[int]] = defaultdict(set)
        for number, row in enumerate(self.rows):
            keys: list[tuple[str, ...]] = [()]
            for column, tree in self.tables[table].items():
                keys = [(*key, code) for key in keys for code in self.above(tree, row.codes[column])]
            for key in keys:
                found[key].add(number)
        return {key: frozenset(rows) for key, rows in found.items()}

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(column for dimensions in self.tables.values() for column in dimensions))

    def atoms(self) -> dict[tuple[str, ...], frozenset[int]]:
        found: dict[tuple[str, ...], set[int]] = defaultdict(set)
        for number, row in enumerate(self.rows):
            found[tuple(row.codes[column] for column in self.columns)].add(number)
        return {key: frozenset(rows) for key, rows in sorted(found.items())}

    def hierarchies(self) -> dict[str, dict[str, Hierarchy]]:
        trees = {
            name: Hierarchy.from_rows(
                pl.DataFrame(list(tree.items()), schema=["child", "parent"], orient="row"), name
            )
            for name, tree in self.parents.items()
        }
        return {
            name: {column: trees[tree] for column, tree in dimensions.items()}
            for name, dimensions in self.tables.items()
        }

    def microdata(self) -> Microdata:
        holdings = max(row.holding for row in self.rows) + 1
        frame = pl.DataFrame(
            [
                (
                    *(row.codes[column] for column in self.columns),
                    *(row.contributor, row.holding, row.value * row.weight, row.weight),
                )
                for row in self.rows
            ],
            schema={
                **dict.fromkeys(self.columns, pl.String),
                **dict.fromkeys(("contributor", "holding", "value", "weight"), pl.Int64),
            },
            orient="row",
        )
        people = max(row.contributor for row in self.rows) + 1
        names = [f"c{i}" for i in range(people)], [f"h{i}" for i in range(holdings)]
        return Microdata(frame, *names, 0, 0)

    def built(self) -> tuple[Tables, Contributions]:
        microdata = self.microdata()
        tables, atom = build(microdata.rows, self.hierarchies())
        return tables, Contributions.of(microdata, atom)

    def rows_of(self, tables: Tables, atoms: Iterable[int]) -> frozenset[int]:
        """The rows in some atoms."""
        found = self.atoms()
        names = [
            tuple(tables.atoms.row(int(atom), named=True)[column] for column in self.columns)
            for atom in atoms
        ]
        return frozenset(row for name in names for row in found[name])


def random_world(
    rng: random.Random, *, linked: bool = False, net: bool = False, n: int | None = None
) -> World:
    """Up to 40 rows in two dimensions, one of them a tree, in which rows may hang at any code; linked: a second table,
    by other areas that overlap the first ones'."""
    parents = {
        "region": {"N": TOTAL, "S": TOTAL, "N1": "N", "N2": "N", "S1": "S"},
        "sector": {"a": TOTAL, "b": TOTAL, "c": TOTAL},
        "zone": {"u": TOTAL, "v": TOTAL, "v1": "v", "v2": "v"},
        "kind": {"ab": TOTAL, "a": "ab", "b": "ab", "c": TOTAL},
    }
    tables = {"": {"region": "region", "sector": "sector"}}
    if linked:
        tables["zones"] = {"zone": "zone", "sector": rng.choice(["sector", "kind"])}
    people = rng.randint(1, 20)
    rows = []
    for _ in range(rng.randint(1, 40) if n is None else n):
        who = rng.randrange(people)
        codes = {
            "region": rng.choice(["N1", "N2", "S1", "S1", "S"]),
            "sector": rng.choice(["a", "a", "b", "c"]),
            "zone": rng.choice(["u", "v1", "v2"]),
        }
        value = rng.randint(0, 9) * 10 ** rng.randint(0, 3) * (rng.choice([1, -1]) if net else 1)
        rows.append(Row(codes, who, who % 5, value, rng.choice([1, 1, 1, 2, 0])))
    return World(rows, parents, tables)


def recount(rows: Iterable[Row], rules: Rules) -> tuple[set[str], Fraction]:
    """The rules that find a set of rows unsafe, and its level: from the definitions, by loops."""
    given = [row for row in rows if row.weight]
    found: list[tuple[str, Fraction]] = [*_crowd(given, rules)]
    size = sum(_units(given)[0].values())
    parts: dict[int, int] = defaultdict(int)
    for row in given:
        parts[row.holding] += row.value * row.weight
    sizes = sorted((abs(part) for part in parts.values()), reverse=True)
    if parts and len(parts) < rules.min_holdings:
        found.append(("min_holdings", rules.p_percent / 100 * sizes[0]))
    if parts and rules.p_percent:
        rest = sum(sizes[2:])
        if rest < rules.p_percent / 100 * sizes[0]:
            found.append(("p_percent", rules.p_percent / 100 * sizes[0] - rest))
    if rules.without_each_holding:
        for holding in parts:
            others = [row for row in given if row.holding != holding]
            found += [("without_each_holding", level) for _, level in _crowd(others, rules)]
    if rules.zero_is_sensitive and size == 0:
        found.append(("zero_is_sensitive", Fraction(0)))
    level = max([Fraction(size, 10), *(level for _, level in found)]) if size and found else Fraction(0)
    return {name for name, _ in found}, level


def _units(rows: list[Row]) -> tuple[dict[int, int], dict[int, int]]:
    """Of each contributor |x|, and weight."""
    x: dict[int, int] = defaultdict(int)
    weight: dict[int, int] = defaultdict(int)
    for row in rows:
        x[row.contributor] += row.value * row.weight
        weight[row.contributor] = max(weight[row.contributor], row.weight)
    return {who: abs(value) for who, value in x.items()}, weight


def _crowd(rows: list[Row], rules: Rules) -> Iterable[tuple[str, Fraction]]:
    x, weight = _units(rows)
    n, size = sum(weight.values()), sum(x.values())
    if 0 < n < rules.min_contributors:
        yield "min_contributors", Fraction(0)
    for count, k in rules.dominance:
        top = sum(sorted(x.values(), reverse=True)[:count])
        if top > k / 100 * size:
            yield "dominance", 100 / k * top - size if k else Fraction(size)

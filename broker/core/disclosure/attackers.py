"""The attackers of a problem: how far each must hold an atom to move, and by how much each target must move.

Slack and level are defined in `problem`. Everything is a whole number, rounded to the attacker's advantage:
slack down, levels up. A coalition (one holding, or two) is as well informed as anyone about its own part; of
the rest it has the same prior as everybody of the whole, which is closer than the public bounds.

Who needs no look at a set of atoms that holds the target: holdings (and pairs with one) that have no part in
it. There they know what an outsider (or the other one alone) knows, and ask for no higher level. For the same
reason whoever is alone in an atom matters only to witnesses that move that atom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from broker.core.disclosure.problem import UNBOUNDED, Attacker, Problem, Targets
from broker.core.disclosure.sparse import distinct, entries, int_rows
from broker.core.disclosure.table import BoolArray, IntArray

OUTSIDER = Attacker()
_MANY: Final = 4  # holdings that must contribute before two of them together are an attacker
_TABLE: Final = 2**24  # coalitions × atoms up to which all slack is computed beforehand


@dataclass(frozen=True)
class Demands:
    """What each attacker of one target asks of a witness within a set of atoms.

    need: attackers × 2, by how much the target must move (down, up), 0: exempt; down, up: attackers × atoms,
    the slack.
    """

    who: list[Attacker]
    need: IntArray
    down: IntArray
    up: IntArray

    def met(self, witness: IntArray, move: int) -> BoolArray:
        """Which of the needs a witness meets, attackers × 2. witness: on the atoms; move: the target's."""
        if not move:
            return np.zeros_like(self.need, dtype=bool)
        if move < 0:
            return self.met(-witness, -move)
        moved = witness.nonzero()[0]
        change = witness[moved]
        rises, size = change > 0, np.abs(change)
        up, down = self.up[:, moved], self.down[:, moved]
        fit = np.empty((len(self.who), 2), dtype=np.int64)
        (np.where(rises, down, up) // size).min(axis=1, initial=UNBOUNDED, out=fit[:, 0])
        (np.where(rises, up, down) // size).min(axis=1, initial=UNBOUNDED, out=fit[:, 1])
        return np.asarray(-(-self.need // move) <= fit)


class Attackers:
    """All attackers of a problem. The targets may be others than the problem's own.

    rows, level, mass (Σ|x|): of the targets; down, up: the outsider's slack per atom; alone: as the problem's;
    coalitions: the outsider, holdings, pairs.
    """

    def __init__(self, problem: Problem, targets: Targets) -> None:
        self._problem = problem
        self._size = np.abs(problem.values) if problem.size is None else problem.size
        self.rows = int_rows(targets.rows)
        self.level = targets.level
        weights = abs(self.rows)
        self.mass: IntArray = weights @ self._size
        atoms, insiders = len(problem.values), problem.insiders
        parts = csr_array((0, atoms), dtype=np.int64) if insiders is None else csr_array(insiders.parts)
        sizes = abs(parts) if insiders is None or insiders.sizes is None else csr_array(insiders.sizes)
        self._parts, self._sizes = int_rows(parts.T), int_rows(sizes.T)  # atoms × holdings
        self._own = int_rows(weights @ self._sizes)
        self.alone: IntArray = np.full(atoms, -1, dtype=np.int64) if problem.alone is None else problem.alone
        holdings = range(parts.shape[0])
        pairs = combinations(holdings, 2) if insiders is not None and insiders.pairs else ()
        self.coalitions = [OUTSIDER, *(Attacker((h,)) for h in holdings), *map(Attacker, pairs)]
        self._members = np.zeros((len(self.coalitions), len(holdings)), dtype=np.int64)
        for i, each in enumerate(self.coalitions):
            self._members[i, each.holdings] = 1
        self._has_alone = bool((self.alone >= 0).any())
        everywhere = np.arange(atoms)
        known = self.coalitions if len(self.coalitions) * atoms <= _TABLE else [OUTSIDER]
        self._table = self._slack_of(everywhere, self._members[: len(known)])
        self.down, self.up = self._table[0][0], self._table[1][0]
        self._needs: dict[int, tuple[IntArray, IntArray]] = {}
        self._needs_alone: dict[tuple[int, int], IntArray] = {}

    def demands(self, target: int, atoms: IntArray, contributors: Sequence[int] = ()) -> Demands:
        """Of the outsider (first), of insiders and pairs, and of contributors who are alone somewhere.

        atoms: ascending."""
        chosen, need = self.needs_of(target)
        if len(self._table[0]) == len(self.coalitions):
            down, up = (side[chosen[:, None], atoms] for side in self._table)
        else:
            present = self._dense(self._sizes, atoms).any(axis=1) | self._dense(self._parts, atoms).any(
                axis=1
            )
            here = self._members[chosen][:, ~present].sum(axis=1) == 0
            chosen, need = chosen[here], need[here]
            down, up = self._slack_of(atoms, self._members[chosen])
        who = [self.coalitions[i] for i in chosen.tolist()]
        if contributors:
            its = self.alone[atoms] == np.array(contributors)[:, None]
            down = np.concatenate((down, np.where(its, 0, down[0])))
            up = np.concatenate((up, np.where(its, 0, up[0])))
            need = np.concatenate((need, [self.need_alone(target, each) for each in contributors]))
            who += [Attacker(alone=each) for each in contributors]
        return Demands(who, need, down, up)

    def slack(self, atoms: IntArray) -> tuple[IntArray, IntArray]:
        """(down, up) of all coalitions: coalitions × atoms."""
        return self._slack_among(atoms, self._members)

    def need_alone(self, target: int, contributor: int) -> IntArray:
        """By how much the target must move (down, up) for who is alone in some of its atoms."""
        if (target, contributor) not in self._needs_alone:
            start, end = self.rows.indptr[target : target + 2]
            atoms, row = self.rows.indices[start:end], self.rows.data[start:end]
            its = self.alone[atoms] == contributor
            held = (np.abs(row) * self._size[atoms])[its].sum()
            down, up = np.where(its, 0, self.down[atoms]), np.where(its, 0, self.up[atoms])
            self._needs_alone[target, contributor] = self._need(target, held[None], down[None], up[None])[0]
        return self._needs_alone[target, contributor]

    def needs_of(self, target: int) -> tuple[IntArray, IntArray]:
        """The coalitions (indices in `coalitions`) that ask anything of the target, the outsider first, and what:
        coalitions × 2."""
        if target not in self._needs:
            start, end = self._own.indptr[target : target + 2]
            own = np.zeros(self._own.shape[1], dtype=np.int64)
            own[self._own.indices[start:end]] = self._own.data[start:end]
            singles = np.count_nonzero(own) < _MANY
            members = self._members[: 1 + len(own)] if singles else self._members
            atoms = self.atoms_of(target)
            need = self._need(target, members @ own, *self._slack_among(atoms, members))
            chosen = np.flatnonzero(need.any(axis=1))
            chosen = np.union1d([0], chosen).astype(np.int64)
            self._needs[target] = chosen, need[chosen]
        return self._needs[target]

    def open_needs(
        self, target: int, atoms: IntArray, changes: Sequence[IntArray]
    ) -> tuple[Demands, BoolArray]:
        """What attackers ask of the target, and attackers × 2: what none of some changes gives them.

        atoms: ascending, all that the changes move; changes: on the atoms.
        """
        lonely: list[int] = []
        if changes and self._has_alone:
            alone = self.alone[atoms[np.any(changes, axis=0)]]
            lonely = distinct(alone[alone >= 0]).tolist()
        demands = self.demands(target, atoms, lonely)
        row, unmet = self.on(target, atoms), demands.need > 0
        for change in changes:
            unmet &= ~demands.met(change, int(row @ change))
        return demands, unmet

    def slack_of(self, who: Attacker, atoms: IntArray) -> tuple[IntArray, IntArray]:
        """(down, up) of one attacker."""
        down, up = self._slack_of(atoms, self._member(who))
        known = (self.alone[atoms] == who.alone) & (who.alone >= 0)
        return np.where(known, 0, down[0]), np.where(known, 0, up[0])

    def need_of(self, who: Attacker, target: int) -> IntArray:
        """By how much the target must move (down, up) for one attacker."""
        if who.alone >= 0:
            return self.need_alone(target, who.alone)
        down, up = self.slack_of(who, self.atoms_of(target))
        held = self._own[[target]].toarray() @ self._member(who)[0]
        needs: IntArray = self._need(target, held, down[None], up[None])[0]
        return needs

    def _member(self, who: Attacker) -> IntArray:
        member = np.zeros((1, self._members.shape[1]), dtype=np.int64)
        member[0, who.holdings] = 1
        return member

    def on(self, target: int, atoms: IntArray) -> IntArray:
        """The target's entries on some atoms, ascending."""
        start, end = self.rows.indptr[target : target + 2]
        own = self.rows.indices[start:end]
        row = np.zeros(len(atoms), dtype=np.int64)
        place = np.searchsorted(atoms, own)
        if len(own) and place[-1] == len(atoms):
            place[place == len(atoms)] = 0
        inside = atoms[place] == own
        row[place[inside]] = self.rows.data[start:end][inside]
        return row

    def atoms_of(self, target: int) -> IntArray:
        """Ascending."""
        start, end = self.rows.indptr[target : target + 2]
        return np.asarray(self.rows.indices[start:end])

    def _need(self, target: int, held: IntArray, down: IntArray, up: IntArray) -> IntArray:
        """Attackers × 2: the level, or what share of the rest it is, or all that the slack allows.

        held: of the target's mass; down, up: on the target's atoms."""
        level, share = int(self.level[target]), self._problem.share
        rest = np.maximum(self.mass[target] - held, 0)
        wanted = np.where(held > 0, np.minimum(level, _ceiling(rest, share)), level)
        start, end = self.rows.indptr[target : target + 2]
        row = self.rows.data[start:end]
        need = np.empty((len(held), 2), dtype=np.int64)
        for way, (plus, minus) in enumerate(((down, up), (up, down))):
            need[:, way] = np.minimum(wanted, _reach(np.where(row > 0, plus, minus), np.abs(row), level))
        return need

    def _slack_among(self, atoms: IntArray, first: IntArray) -> tuple[IntArray, IntArray]:
        """Of the first coalitions, given as members."""
        if len(self._table[0]) == len(self.coalitions):
            return self._table[0][: len(first), atoms], self._table[1][: len(first), atoms]
        return self._slack_of(atoms, first)

    def _slack_of(self, atoms: IntArray, members: IntArray) -> tuple[IntArray, IntArray]:
        """Slack, down and up, of coalitions of so many holdings: coalitions × atoms."""
        problem = self._problem
        part, size = (members @ self._dense(matrix, atoms) for matrix in (self._parts, self._sizes))
        values, lower, upper = problem.values[atoms], problem.lower[atoms], problem.upper[atoms]
        least = np.where(lower >= 0, np.maximum(lower, np.minimum(part, values)), lower)
        down = np.where(least <= -UNBOUNDED, UNBOUNDED, values - least)
        up = np.broadcast_to(np.where(upper >= UNBOUNDED, UNBOUNDED, upper - values), down.shape)
        rest = np.maximum(self._size[atoms] - size, 0)
        if problem.prior is not None:
            most = _floor(rest, problem.prior)
            down, up = np.minimum(down, most), np.minimum(up, most)
        if problem.alone is not None:
            nobody_else = (rest == 0) & (size > 0)
            down, up = np.where(nobody_else, 0, down), np.where(nobody_else, 0, up)
        return down, up

    def _dense(self, matrix: Any, atoms: IntArray) -> IntArray:
        """Holdings × atoms."""
        row, place = entries(matrix.indptr, atoms)
        result = np.zeros((matrix.shape[1], len(atoms)), dtype=np.int64)
        result[matrix.indices[place], row] = matrix.data[place]
        return result


def _floor(values: IntArray, by: Fraction) -> IntArray:
    """⌊values · by⌋, without leaving int64 on the way where the result does not."""
    whole, part = np.divmod(values, by.denominator)
    return np.asarray(whole * by.numerator + part * by.numerator // by.denominator)


def _ceiling(values: IntArray, by: Fraction) -> IntArray:
    """⌈values · by⌉ likewise."""
    return -_floor(-values, by)


def _reach(slack: IntArray, weight: NDArray[np.int64], enough: int) -> IntArray:
    """Per row min(Σ weight · slack, enough), where the sum may leave int64."""
    if not slack.shape[1]:
        return np.zeros(len(slack), dtype=np.int64)
    most = np.minimum(slack, -(-enough // weight))  # more than this of one atom is enough by itself
    if int(most.max(initial=0)) * int(weight.max(initial=1)) * slack.shape[1] >= 2**62:
        return np.array(
            [min(sum(row), enough) for row in (most.astype(object) * weight).tolist()], dtype=np.int64
        )
    return np.asarray(np.minimum(most @ weight, enough))

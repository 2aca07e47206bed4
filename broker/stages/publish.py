"""What one decided product window comes to on the topics: manifests, cells, evidence, log leaves.

Invariants
- A release's bytes follow from policy, contributions and keys alone: no clock, offset or random number is in it.
- Only public columns go to `out.<product>`; the decision behind them goes to `evidence`, encrypted for auditors.
- One release per product, window and release group; an empty group has one too, so that a reader can tell
  *nothing to show* from *not there yet*.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import polars as pl
import rfc8785

from broker.core.areas import AreaTree
from broker.core.chunks import pieces
from broker.core.open_windows import Due
from broker.core.policy import ENGINE
from broker.core.products import Units, in_groups, units
from broker.core.release import Decision, Summary, decide_groups
from broker.core.report import PUBLIC_CELLS
from broker.core.sealing import Sealer
from broker.stages.ports import Codec, Keys, Out

LOG = "log.policy"
EVIDENCE = "evidence"
CELLS_A_CHUNK = 2000


class Publisher:
    """Decides and writes down what is due in release lane `partition` of `lanes`."""

    def __init__(
        self, partition: int, lanes: int, areas: AreaTree, codec: Codec, keys: Keys, sealer: Sealer
    ) -> None:
        self._partition = partition
        self._lanes = lanes
        self._areas = areas
        self._codec = codec
        self._keys = keys
        self._sealer = sealer

    def publish(self, due: Due) -> tuple[list[Out], list[Summary]]:
        """Records of all release groups of this lane, in their order, and what was decided in each."""
        if due.abandoned:
            return [self._abandoned(due)], []
        if not any(map(self._mine, range(len(self._areas.groups(due.product.group_level))))):
            return [], []  # a territory may have more lanes than release groups
        out: list[Out] = []
        summaries = []
        found = counted(due, self._areas, self._mine)
        for index, decision in decided(due, self._areas, self._keys, found):
            group = self._areas.groups(due.product.group_level)[index]
            out += self._release(due, group, decision)
            summaries.append(decision.summary)
        return out, summaries

    def _mine(self, index: int) -> bool:
        """Whether the release group of this index is decided in this lane."""
        return index % self._lanes == self._partition

    def _release(self, due: Due, group: str, decision: Decision) -> Iterator[Out]:
        cells = decision.cells.select(list(PUBLIC_CELLS))
        chunks = [
            self._cells(due, group, number, cells.slice(start, CELLS_A_CHUNK))
            for number, start in enumerate(range(0, cells.height, CELLS_A_CHUNK))
        ]
        manifest = self._manifest(due, group, chunks)
        release = sha256(rfc8785.dumps(manifest)).hexdigest()
        topic = f"out.{due.product.name}"
        key = f"{group}/{due.domain.calendar.iso(due.window.start)}".encode()
        for chunk in chunks:
            yield Out(topic, self._partition, key, chunk)
        # last, so that whoever has the manifest has the cells
        yield Out(topic, self._partition, key, self._codec.encode("release-manifest", manifest))
        yield from self._evidence(due, group, decision, release)
        yield self._leaf(due, "release", release, manifest["cells_digest"])

    def _cells(self, due: Due, group: str, number: int, cells: pl.DataFrame) -> bytes:
        record = {
            "product": due.product.name,
            "group": group,
            "window_start": due.window.start,
            "chunk": number,
            "cells": cells.to_dicts(),
        }
        return self._codec.encode("release-cells", record)

    def _manifest(self, due: Due, group: str, chunks: list[bytes]) -> dict[str, Any]:
        policy = due.product.policy
        left_out = sorted({stream.partner for stream in due.left_out})
        partners = sorted({stream.partner for stream in due.product.streams} - set(left_out))
        return {
            "product": policy.product,
            "version": policy.version,
            "policy": due.product.digest,
            "window_start": due.window.start,
            "window_end": due.window.end,
            "group": group,
            "hierarchy": self._areas.hierarchy,
            "timezone": due.domain.calendar.timezone,
            "levels": list(policy.areas.levels),
            "measures": list(policy.measures),
            "partners": partners,
            "left_out": left_out,
            "chunks": len(chunks),
            "cells_digest": "sha256:" + sha256(b"".join(chunks)).hexdigest(),
            "engine": ENGINE,
        }

    def _evidence(self, due: Due, group: str, decision: Decision, release: str) -> Iterator[Out]:
        """The decision with truth and reasons, readable with the audit key only."""
        for number, piece in enumerate(pieces(decision.cells)):
            key = f"{release}/decision/{number}".encode()
            header = {
                "product": due.product.name,
                "window_start": due.window.start,
                "group": group,
                "policy": due.product.digest,
            }
            body = self._sealer.seal(
                piece,
                self._keys.audit_key(),
                topic=EVIDENCE,
                partition=self._partition,
                key=key,
                policies=due.product.digest,
            )
            record = {
                "domain": due.domain.name,
                "window": due.window.start,
                "header": json.dumps(header, sort_keys=True),
                "body": body,
            }
            yield Out(EVIDENCE, self._partition, key, self._codec.encode("evidence", record))

    def _abandoned(self, due: Due) -> Out:
        """A window that was held for longer than the policy allows is logged, never published."""
        what: dict[str, Any] = {
            "product": due.product.name,
            "window_start": due.window.start,
            "waited_for": [stream.topic for stream in due.left_out],
            "lane": self._partition,
        }
        digest = sha256(rfc8785.dumps(what)).hexdigest()
        return self._leaf(due, "abandoned", digest, f"sha256:{digest}")

    def _leaf(self, due: Due, kind: str, release: str, digest: str) -> Out:
        record = {
            "kind": kind,
            "product": due.product.name,
            "version": due.product.policy.version,
            "policy": due.product.digest,
            "release": release,
            "digest": digest,
        }
        return Out(LOG, 0, None, self._codec.encode("log-leaf", record))


@dataclass(frozen=True)
class Counted:
    """Who counts in a due window. groups: the wanted release groups, index in `areas.groups` -> code."""

    groups: dict[int, str]
    units: Units


def counted(due: Due, areas: AreaTree, wanted: Callable[[int], bool] = lambda _: True) -> Counted:
    """The premises of the wanted release groups."""
    level = due.product.group_level
    groups = {index: group for index, group in enumerate(areas.groups(level)) if wanted(index)}
    inside = in_groups(areas, level, frozenset(groups.values()))
    return Counted(groups, units(due.rollups, due.product, due.domain, due.window, inside))


def decided(due: Due, areas: AreaTree, keys: Keys, found: Counted) -> Iterator[tuple[int, Decision]]:
    """The decision about each of these release groups (by index in `areas.groups`), in order."""
    rounding = keys.rounding_key(due.domain.name, due.domain.calendar.epoch(due.window.start))
    made = decide_groups(
        due.product,
        due.domain,
        areas,
        due.window,
        [*found.groups.values()],
        units=found.units,
        rounding_key=rounding,
    )
    yield from zip(found.groups, made, strict=True)

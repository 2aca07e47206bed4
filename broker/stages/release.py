"""A release lane: folds the contributions of its partition, closes windows, decides, publishes.

Invariants
- Everything is decided from the records of this lane's partitions, in their order; closing is looked at after
  each record that can move it, so that the size of a fetch changes nothing.
- One transaction per closed base window holds all that follows from it: releases, evidence, log leaves,
  roll-ups, the ledger's row and the offset from which a successor folds again. Deciding comes before it.
- What no successor would read is deleted from contributions and rollups after the closing that made it so; the
  ledger stays.
- A successor reads its ledger's last row and the roll-ups of open windows, then folds from the committed offset;
  chunks of windows that have closed are skipped without decrypting them, and nothing closes before it is where
  its predecessor closed last.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import rfc8785

from broker.core.areas import AreaTree
from broker.core.chunks import frame, pieces
from broker.core.control import ControlState
from broker.core.errors import OperatorError
from broker.core.open_windows import Closed, OpenWindows
from broker.core.plan import Plan, Stream
from broker.core.sealing import Sealer, unseal
from broker.stages.digest import CONTRIBUTIONS, policies_digest
from broker.stages.ledger import LEDGER, MOST_RECORDS, WAIT_MS, last_closing, records_from
from broker.stages.ports import Codec, Keys, Out, Place, Reader, Writer
from broker.stages.publish import Publisher
from broker.stages.telemetry import Telemetry

ROLLUPS = "rollups"


class ReleaseLane:
    """Release lane `partition` of `lanes`; `start`, then `step` again and again, then `stop`."""

    role = "release"

    def __init__(
        self,
        partition: int,
        lanes: int,
        areas: AreaTree,
        timezone: str,
        reader: Reader,
        writer: Writer,
        codec: Codec,
        keys: Keys,
        sealer: Sealer,
        telemetry: Telemetry,
    ) -> None:
        self._partition = partition
        self._areas = areas
        self._timezone = timezone
        self._reader = reader
        self._writer = writer
        self._codec = codec
        self._keys = keys
        self._sealer = sealer
        self._telemetry = telemetry
        self._publisher = Publisher(partition, lanes, areas, codec, keys, sealer)
        self._windows = OpenWindows(lanes, self._with_streams)
        self._control = b""
        self._canonical = rfc8785.dumps("")
        self._control_read = 0
        self._position = 0
        self._plan = Plan({}, areas)
        self._streams = _streams([])
        self._retracted: list[tuple[str, list[str], pl.DataFrame, int]] = []
        self._source: Place = (CONTRIBUTIONS, partition)
        self._rollups: Place = (ROLLUPS, partition)
        self._rollups_at: dict[tuple[str, int], int] = {}
        self._rollups_seen = 0

    async def start(self) -> None:
        """Fence the former owner, take back what it knew, go on from where it committed."""
        await self._writer.start()
        await self._reader.start()
        await self._restore()
        committed = await self._reader.committed([self._source])
        first = await self._reader.first_offsets([self._source])
        offset = committed.get(self._source, (first[self._source], ""))[0]
        await self._reader.assign({self._source: offset})
        if 0 < self._position <= offset:
            await self._close(self._position)  # what closed the last window may close more

    async def stop(self) -> None:
        await self._reader.stop()
        await self._writer.stop()

    async def step(self) -> None:
        """One fetch, folded; each window that closes on the way is decided and published."""
        for batch in await self._reader.poll([self._source], most=MOST_RECORDS, wait_ms=WAIT_MS):
            records = list(zip(batch.offsets, batch.keys, batch.values, strict=True))
            while records:
                taken, closing = await asyncio.to_thread(self._take, records)
                if closing:
                    await self._close(records[taken - 1][0] + 1)
                records = records[taken:]
            self._telemetry.release_lane(self._partition, self._plan, self._windows)
        for (topic, partition), count in (await self._reader.behind()).items():
            self._telemetry.lag(topic, partition, count)

    # -- folding --------------------------------------------------------------------------------------

    def _take(self, records: Sequence[tuple[int, bytes | None, bytes | None]]) -> tuple[int, bool]:
        """Takes records up to the first after which a window closes: how many, and whether one does."""
        for taken, (offset, key, value) in enumerate(records, 1):
            moved = self._apply(offset, key, value) or offset + 1 == self._position
            if moved and self._windows.may_close():
                return taken, True
        return len(records), False

    def _apply(self, offset: int, key: bytes | None, value: bytes | None) -> bool:
        """Takes one record; True if it can move a watermark.

        Of records that a predecessor took before it closed its last window, only rows and retractions are taken
        again: marks and plan of that moment are known, and an earlier look would close windows that lack rows.
        """
        _, record = self._codec.decode(value)
        kind, window = record["kind"], record["window"]
        if offset < self._position and kind not in ("chunk", "retraction"):
            return False
        if kind == "mark":
            self._windows.mark(record["stream"], record["lane"], window)
        elif kind == "stalled":
            self._windows.stalled(record["stream"], record["lane"], window)
        elif kind == "plan":
            self._set_plan(record["body"], json.loads(record["header"])["read"], offset)
        elif kind == "chunk":
            self._chunk(record, offset, key or b"")
        elif kind == "retraction":
            self._retraction(record, offset)
        elif kind == "tally":
            self._late(record["domain"], record["stream"], json.loads(record["header"])["late"])
        return kind in ("mark", "stalled", "plan")

    def _set_plan(self, body: bytes, read: int, offset: int) -> None:
        """read: the control topic's offset that the plan is of; a lane that is behind brings no old one back."""
        if body != self._control and read >= self._control_read:
            self._control, self._control_read = body, read
            self._canonical = rfc8785.dumps(body.decode())
            control = ControlState.load(body)
            self._plan, left_out = control.plan(self._areas, self._timezone)
            self._windows.set_plan(self._plan, offset)
            self._streams = _streams(control.streams())
            self._telemetry.left_out(left_out)

    def _retraction(self, record: dict[str, Any], offset: int) -> None:
        domain, written = record["domain"], json.loads(record["header"])["products"]
        if not self._takes(domain, written, offset):
            return
        marked = frame(record["body"]).with_columns(pl.lit(offset, pl.Int64).alias("seq"))
        self._windows.retract(domain, self._windows.numbered(domain, marked, "bits", written, offset))
        if offset >= self._position:
            self._retracted.append((domain, written, marked, offset))

    def _chunk(self, record: dict[str, Any], offset: int, key: bytes) -> None:
        domain, window, header = record["domain"], record["window"], json.loads(record["header"])
        if not self._takes(domain, header["products"], offset):
            return
        if window < self._windows.next_start(domain):
            if offset >= self._position:  # else it was folded, or counted, before the window closed
                self._late(domain, domain, header["rows"])
            return
        topic, partition = self._source
        secret = self._keys.window_key(domain, header["base"], window)
        body = unseal(
            record["body"], secret, topic=topic, partition=partition, key=key, policies=header["policies"]
        )
        self._windows.fold(domain, window, body, offset, header["products"])

    def _with_streams(self, rows: pl.DataFrame, window: int) -> pl.DataFrame:
        return rows.join(self._streams, on="topic", how="inner", maintain_order="left").select(
            pl.lit(window, pl.Int64).alias("window"), pl.exclude("topic")
        )

    def _late(self, domain: str, whose: str, count: int) -> None:
        """Counts what came too late; of whole chunks only the domain is known, because they are not opened."""
        self._windows.count_late(domain, count)
        self._telemetry.late(whose, count)

    def _takes(self, domain: str, products: Sequence[str], offset: int) -> bool:
        """Whether any of the products that a record was made for is activated; a lane that is behind may still write
        for one that has gone."""
        if not self._control:
            raise OperatorError(
                "no_plan",
                f"contributions of domain {domain} came before the plan that they were made under: the ingest lanes "
                "must write to this cluster only",
                where=f"{CONTRIBUTIONS}/{self._partition}",
            )
        return self._windows.takes(products, offset)

    # -- closing --------------------------------------------------------------------------------------

    async def _close(self, position: int) -> None:
        offset = 0
        for closed in self._windows.close_next(position - 1):
            name, start = closed.domain.name, closed.window.start
            with self._telemetry.releasing(name):
                out = await asyncio.to_thread(self._outcome, closed, position)
                offset = self._windows.oldest_needed(position)
                written = await self._writer.commit(out, {self._source: (offset, "")})
            if self._rollups in written:
                self._rollups_at[name, start] = self._rollups_seen = written[self._rollups]
            longest = self._windows.oldest_rollup(closed.domain, start)
            if self._windows.rollups_from(name) > longest:
                self._sealer.forget(self._keys.window_key(name, "rollup", longest))
        if offset:
            await self._trim(offset)

    async def _trim(self, offset: int) -> None:
        """Lets go of contributions before `offset`, which nobody folds again, and of what precedes the oldest roll-up
        that is needed: retractions among it reach roll-ups that are older still, and no row that is open."""
        needed = self._windows.rollups()
        self._rollups_at = {place: at for place, at in self._rollups_at.items() if place in needed}
        oldest = min(self._rollups_at.values(), default=self._rollups_seen)
        await self._writer.trim({self._source: offset, self._rollups: oldest})

    def _outcome(self, closed: Closed, position: int) -> list[Out]:
        """All records that follow from one closed base window; position: behind the record that closed it."""
        out = [*self._keep_retractions(), *self._keep_rollup(closed, position - 1)]
        for due in closed.due:
            records, summaries = self._publisher.publish(due)
            out += records
            for summary in summaries:
                self._telemetry.released(due.product.name, summary)
        out.append(self._ledger_row(position))
        return out

    def _keep_retractions(self) -> Iterator[Out]:
        """Retractions since the last closing: they reach roll-ups, and a restart does not read them again."""
        retracted, self._retracted = self._retracted, []
        for domain, products, rows, seq in retracted:
            header = {"kind": "retraction", "products": products, "policies": "", "longest": 0, "seq": seq}
            if self._windows.takes(products, seq):
                for piece in pieces(rows):
                    yield self._rollup_record(domain, 0, header, piece)

    def _keep_rollup(self, closed: Closed, seq: int) -> Iterator[Out]:
        """The roll-up, unless every product's window ends with this base window: nobody will ask for it again."""
        domain, start = closed.domain, closed.window.start
        if start < self._windows.rollups_from(domain.name):
            return
        header = {
            "kind": "rollup",
            "products": [product.key for product in domain.products],
            "policies": policies_digest(domain),
            "longest": self._windows.oldest_rollup(domain, start),
            "seq": seq,
        }
        for piece in pieces(closed.rollup):
            yield self._rollup_record(domain.name, start, header, piece)

    def _rollup_record(self, domain: str, window: int, header: dict[str, Any], piece: bytes) -> Out:
        key = f"{domain}/{window}".encode()
        body = self._sealer.seal(
            piece,
            self._keys.window_key(domain, "rollup", header["longest"]),
            topic=ROLLUPS,
            partition=self._partition,
            key=key,
            policies=header["policies"],
        )
        record = {
            "domain": domain,
            "window": window,
            "header": json.dumps(header, sort_keys=True),
            "body": body,
        }
        return Out(ROLLUPS, self._partition, key, self._codec.encode("rollup", record))

    def _ledger_row(self, position: int) -> Out:
        state: dict[str, Any] = {
            "control_read": self._control_read,
            "position": position,
            "windows": self._windows.snapshot(),
        }
        # The control state is long, mostly the same, and its name the first: it is not made canonical anew each time.
        body = b'{"control":' + self._canonical + b"," + rfc8785.dumps(state)[1:]
        record = {"kind": "closed", "domain": "", "body": body}
        return Out(LEDGER, self._partition, b"closed", self._codec.encode("ledger-row", record))

    # -- after a restart ------------------------------------------------------------------------------

    async def _restore(self) -> None:
        state = await last_closing(self._reader, self._partition, self._codec)
        if state is None:
            return
        self._windows.restore(state["windows"])
        self._position = state["position"]
        self._set_plan(state["control"].encode(), state["control_read"], self._position)
        first = (await self._reader.first_offsets([self._rollups]))[self._rollups]
        async for batch in records_from(self._reader, self._rollups, first):
            for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
                await asyncio.to_thread(self._take_rollup, offset, key or b"", value)

    def _take_rollup(self, offset: int, key: bytes, value: bytes | None) -> None:
        _, record = self._codec.decode(value)
        domain, window, header = record["domain"], record["window"], json.loads(record["header"])
        products, seq, retracts = header["products"], header["seq"], header["kind"] == "retraction"
        if not self._windows.takes(products, seq):
            return
        if not retracts and window < self._windows.rollups_from(domain):
            return
        body = unseal(
            record["body"],
            self._keys.window_key(domain, "rollup", header["longest"]),
            topic=ROLLUPS,
            partition=self._partition,
            key=key,
            policies=header["policies"],
        )
        rows = self._windows.numbered(domain, frame(body), "bits" if retracts else "mask", products, seq)
        if retracts:
            self._windows.retract(domain, rows)
        else:
            self._rollups_at.setdefault((domain, window), offset)
            self._windows.add_rollup(domain, window, rows)


def _streams(streams: Sequence[Stream]) -> pl.DataFrame:
    """What contributions say by their topic alone; text as Categorical."""
    columns = ("topic", "partner", "holding", "measure", "kind", "net")
    return pl.DataFrame(
        [[getattr(stream, name) for name in columns] for stream in streams],
        schema={name: pl.Boolean if name == "net" else pl.Categorical for name in columns},
        orient="row",
    )

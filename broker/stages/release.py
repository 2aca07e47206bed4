"""A release lane: folds the contributions of its partition, closes windows, decides, publishes.

Invariants
- Everything is decided from the records of this lane's partitions, in their order; closing is looked at after
  each record that can move it, so that the size of a fetch changes nothing.
- One transaction per closed base window holds all that follows from it: releases, evidence, log leaves,
  roll-ups, the ledger's row and the offset from which a successor folds again. Deciding comes before it.
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
from broker.core.bits import rename_bits
from broker.core.chunks import frame, pieces
from broker.core.control import ControlState
from broker.core.errors import OperatorError
from broker.core.open_windows import Closed, OpenWindows
from broker.core.plan import Domain, Plan
from broker.core.sealing import Sealer, unseal
from broker.stages.digest import CONTRIBUTIONS, policies_digest
from broker.stages.ports import Codec, Keys, Out, Place, Reader, Writer
from broker.stages.publish import Publisher
from broker.stages.telemetry import Telemetry

ROLLUPS = "rollups"
LEDGER = "ledger"
MOST_RECORDS = 256
WAIT_MS = 200


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
        self._windows = OpenWindows(lanes)
        self._control = b""
        self._control_read = 0
        self._position = 0
        self._plan = Plan({}, areas)
        self._streams = _streams(self._plan)
        self._retracted: list[tuple[str, list[str], pl.DataFrame]] = []
        self._source: Place = (CONTRIBUTIONS, partition)

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
                taken, look = await asyncio.to_thread(self._take, records)
                if look:
                    await self._close(records[taken - 1][0] + 1)
                records = records[taken:]
            self._telemetry.release_lane(self._partition, self._plan, self._windows)

    # -- folding --------------------------------------------------------------------------------------

    def _take(self, records: Sequence[tuple[int, bytes | None, bytes | None]]) -> tuple[int, bool]:
        """Takes records up to the first after which closing must be looked at: how many, and whether it must."""
        for taken, (offset, key, value) in enumerate(records, 1):
            if self._apply(offset, key, value) or offset + 1 == self._position:
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
            self._set_plan(record["body"], json.loads(record["header"])["read"])
        elif kind == "chunk":
            self._chunk(record, offset, key or b"")
        elif kind == "retraction":
            self._retraction(record, offset)
        elif kind == "tally":
            self._telemetry.late(record["stream"], json.loads(record["header"])["late"])
        return kind in ("mark", "stalled", "plan")

    def _set_plan(self, body: bytes, read: int) -> None:
        """read: the control topic's offset that the plan is of; a lane that is behind brings no old one back."""
        if body != self._control and read >= self._control_read:
            self._control, self._control_read = body, read
            self._plan, left_out = ControlState.load(body).plan(self._areas, self._timezone)
            self._windows.set_plan(self._plan)
            self._streams = _streams(self._plan)
            self._telemetry.left_out(left_out)

    def _retraction(self, record: dict[str, Any], offset: int) -> None:
        domain = record["domain"]
        if not self._runs(domain):
            return
        written = json.loads(record["header"])["products"]
        marked = frame(record["body"]).with_columns(pl.lit(offset, pl.Int64).alias("seq"))
        self._windows.retract(domain, self._bits(marked, written, domain, "bits"))
        if offset >= self._position:
            self._retracted.append((domain, written, marked))

    def _chunk(self, record: dict[str, Any], offset: int, key: bytes) -> None:
        domain, window = record["domain"], record["window"]
        if not self._runs(domain) or window < self._windows.next_start(domain):
            return
        header = json.loads(record["header"])
        topic, partition = self._source
        base = self._plan.domains[domain].base
        secret = self._keys.window_key(domain, base, window)
        body = unseal(
            record["body"], secret, topic=topic, partition=partition, key=key, policies=header["policies"]
        )
        rows = self._bits(frame(body, categories=True), header["products"], domain, "mask")
        self._windows.fold(domain, window, self._with_streams(rows, window), offset)

    def _with_streams(self, rows: pl.DataFrame, window: int) -> pl.DataFrame:
        return rows.join(self._streams, on="topic", how="inner", maintain_order="left").select(
            pl.lit(window, pl.Int64).alias("window"), pl.exclude("topic")
        )

    def _bits(self, rows: pl.DataFrame, written: Sequence[str], domain: str, column: str) -> pl.DataFrame:
        """Product bits as this lane's plan numbers them; those of products that no longer run are cleared."""
        now = [product.name for product in self._plan.domains[domain].products]
        return rows if list(written) == now else rename_bits(rows, column, list(written), now)

    def _runs(self, domain: str) -> bool:
        """Whether the domain has products; a lane that is behind may still write for one that has none any more."""
        if not self._control:
            raise OperatorError(
                "no_plan",
                f"contributions of domain {domain} came before the plan that they were made under: the ingest lanes "
                "must write to this cluster only",
                where=f"{CONTRIBUTIONS}/{self._partition}",
            )
        return domain in self._plan.domains

    # -- closing --------------------------------------------------------------------------------------

    async def _close(self, position: int) -> None:
        for closed in self._windows.close_next(position - 1):
            with self._telemetry.releasing(closed.domain.name):
                out = await asyncio.to_thread(self._outcome, closed, position)
                offset = self._windows.oldest_needed(position)
                await self._writer.commit(out, {self._source: (offset, "")})
            self._sealer.forget(
                self._keys.window_key(closed.domain.name, closed.domain.base, closed.window.start)
            )

    def _outcome(self, closed: Closed, position: int) -> list[Out]:
        """All records that follow from one closed base window; position: behind the record that closed it."""
        out = list(self._keep_retractions())
        out += self._keep_rollup(closed)
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
        for domain, products, rows in retracted:
            for piece in pieces(rows) if self._runs(domain) else ():
                yield self._rollup_record(self._plan.domains[domain], 0, "retraction", products, piece)

    def _keep_rollup(self, closed: Closed) -> Iterator[Out]:
        domain = closed.domain
        longest = self._windows.oldest_rollup(domain, closed.window.start)
        if longest == closed.window.start and self._last_need(closed):
            return
        products = [product.name for product in domain.products]
        for piece in pieces(closed.rollup):
            yield self._rollup_record(domain, closed.window.start, "rollup", products, piece)

    @staticmethod
    def _last_need(closed: Closed) -> bool:
        """True where every product's window ends with this base window: nobody will ask for its roll-up again."""
        domain = closed.domain
        ends = {
            domain.calendar.window(product.policy.window.length, closed.window.start).end
            for product in domain.products
        }
        return ends == {closed.window.end}

    def _rollup_record(
        self, domain: Domain, window: int, kind: str, products: list[str], piece: bytes
    ) -> Out:
        key = f"{domain.name}/{window}".encode()
        policies = policies_digest(domain)
        longest = self._windows.oldest_rollup(domain, window) if window else 0
        secret = self._keys.window_key(domain.name, "rollup", longest)
        body = self._sealer.seal(
            piece, secret, topic=ROLLUPS, partition=self._partition, key=key, policies=policies
        )
        header = {"kind": kind, "products": products, "policies": policies, "longest": longest}
        record = {
            "domain": domain.name,
            "window": window,
            "header": json.dumps(header, sort_keys=True),
            "body": body,
        }
        return Out(ROLLUPS, self._partition, key, self._codec.encode("rollup", record))

    def _ledger_row(self, position: int) -> Out:
        state: dict[str, Any] = {
            "control": self._control.decode(),
            "control_read": self._control_read,
            "position": position,
            "windows": self._windows.snapshot(),
        }
        record = {"kind": "closed", "domain": "", "body": rfc8785.dumps(state)}
        return Out(LEDGER, self._partition, b"closed", self._codec.encode("ledger-row", record))

    # -- after a restart ------------------------------------------------------------------------------

    async def _restore(self) -> None:
        last = None
        async for batch in self._whole((LEDGER, self._partition)):
            for value in batch.values:
                _, record = self._codec.decode(value)
                last = record if record["kind"] == "closed" else last
        if last is None:
            return
        state = json.loads(last["body"])
        self._windows.restore(state["windows"])
        self._set_plan(state["control"].encode(), state["control_read"])
        self._position = state["position"]
        async for batch in self._whole((ROLLUPS, self._partition)):
            for key, value in zip(batch.keys, batch.values, strict=True):
                await asyncio.to_thread(self._take_rollup, key or b"", value)

    async def _whole(self, place: Place) -> Any:
        """All records of a partition up to its end now."""
        end = (await self._reader.end_offsets([place]))[place]
        await self._reader.assign({place: (await self._reader.first_offsets([place]))[place]})
        while await self._reader.position(place) < end:
            for batch in await self._reader.poll([place], most=MOST_RECORDS, wait_ms=WAIT_MS):
                yield batch

    def _take_rollup(self, key: bytes, value: bytes | None) -> None:
        _, record = self._codec.decode(value)
        domain, window = record["domain"], record["window"]
        current = self._plan.domains.get(domain)
        if current is None:
            return
        header = json.loads(record["header"])
        needed = self._windows.oldest_rollup(current, self._windows.next_start(domain))
        if header["kind"] == "rollup" and window < needed:
            return
        body = unseal(
            record["body"],
            self._keys.window_key(domain, "rollup", header["longest"]),
            topic=ROLLUPS,
            partition=self._partition,
            key=key,
            policies=header["policies"],
        )
        if header["kind"] == "retraction":
            self._windows.retract(domain, self._bits(frame(body), header["products"], domain, "bits"))
        else:
            rows = self._bits(frame(body), header["products"], domain, "mask")
            self._windows.add_rollup(domain, window, rows)


def _streams(plan: Plan) -> pl.DataFrame:
    """What contributions say by their topic alone; text as Categorical."""
    streams = {s for domain in plan.domains.values() for s in domain.streams}
    columns = ("topic", "partner", "holding", "measure", "kind", "net")
    return pl.DataFrame(
        [[getattr(stream, name) for name in columns] for stream in sorted(streams)],
        schema={name: pl.Boolean if name == "net" else pl.Categorical for name in columns},
        orient="row",
    )

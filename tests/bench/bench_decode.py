"""How long the codec takes, on one core: `python tests/bench/bench_decode.py`. Not a test: nothing is judged.

Prints the median and the spread of each step's CPU time in microseconds a record, at 100,000 records a batch.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from broker.edge.schemas import SchemaFolder  # noqa: E402 - the path comes first, so that no install is needed

COUNT = 100_000
ROUNDS = 15
SEED = 20260101
MAX_BYTES = 1024


def readings(count: int) -> pl.DataFrame:
    rng = np.random.default_rng(SEED)
    start = 1_767_225_600_000 + rng.integers(0, 1000, count) * 1_800_000
    return pl.DataFrame(
        {
            "delivery_point": [rng.bytes(16).hex() for _ in range(count)],
            "start": start,
            "end": start + 1_800_000,
            "value": rng.integers(0, 4000, count),
            "quality": rng.choice(["measured", "estimated"], count),
        }
    )


def measure(what: str, step: Callable[[], object], records: int = COUNT) -> None:
    took = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        step()
        took.append((time.process_time() - begun) / records * 1e6)
    sys.stdout.write(
        f"{what:58} {statistics.median(took):7.3f}  ({min(took):.3f} to {max(took):.3f}) us/record\n"
    )


def main() -> None:
    folder = SchemaFolder.load(ROOT / "schemas")
    frame, offsets = readings(COUNT), np.arange(COUNT)
    good = folder.encode_readings(frame, "electricity-interval")
    register = folder.encode_readings(frame, "water-register")
    marked = list(good)
    marked[50_000] = folder.encode("completeness-mark", {"stream": "s", "until": 1_767_225_600_000})
    one_bad = list(good)
    one_bad[61_234] = one_bad[61_234][:-3]
    trailing = [value + b"\0" if i % 100 == 0 else value for i, value in enumerate(good)]
    some_bad = [value[:-3] if i % 100 == 0 else value for i, value in enumerate(good)]
    all_bad = [value[:-3] for value in good]

    def decode(values: list[bytes], name: str = "electricity-interval") -> object:
        return folder.decode_readings(values, offsets, name, max_bytes=MAX_BYTES)

    measure("encode", lambda: folder.encode_readings(frame, "electricity-interval"))
    measure("decode intervals", lambda: decode(good))
    measure("decode registers", lambda: decode(register, "water-register"))
    measure("decode, one completeness mark among them", lambda: decode(marked))
    measure("decode, one truncated record", lambda: decode(one_bad))
    measure("decode, 1 in 100 with trailing bytes", lambda: decode(trailing))
    measure("decode, 1 in 100 truncated", lambda: decode(some_bad))
    measure("decode, all truncated", lambda: decode(all_bad))
    few = good[:2000]
    measure("record by record (fastavro)", lambda: [folder.decode(value) for value in few], len(few))


if __name__ == "__main__":
    main()

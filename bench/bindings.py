"""A bindings snapshot of COUNT rows, and a million lookups: python -m bench.bindings COUNT.

Every tenth terminal has two bindings, one after the other. Prints figures as JSON.
"""

import json
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.backfill_contenders.__main__ import peak_mb
from transforms.bindings.bindings import SCHEMA, Bindings

LOOKUPS, BATCH = 1_000_000, 20_000
START, SWAP = 1_577_836_800_000, 1_704_067_200_000


def numbered(prefix: str, numbers: np.ndarray) -> pa.Array:
    """`prefix` and the number in ten digits, natively."""
    texts = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 10, padding="0")
    return pc.binary_join_element_wise(prefix, texts, "")


def snapshot_rows(count: int) -> pa.Table:
    """`count` rows of bindings in random order."""
    terminals = count * 10 // 11
    swapped = np.arange(count - terminals) * 10
    device = np.concatenate([np.arange(terminals), swapped])
    second = np.arange(count) >= terminals
    until = np.where(second | ~np.isin(device, swapped), 0, SWAP)
    order = np.random.default_rng(1).permutation(count)
    times = pa.timestamp("ms", "UTC")
    return pa.table(
        [
            numbered("", device[order]),
            numbered("V", np.arange(count)[order]),
            pa.array(np.where(second, SWAP, START)[order]).cast(times),
            pa.array(until[order], mask=until[order] == 0).cast(times),
            pa.array(np.ones(count, np.int64)),
        ],
        schema=SCHEMA,
    )


def main(count: int) -> None:
    pa.set_cpu_count(1)
    rows = snapshot_rows(count)
    start = time.perf_counter()
    bindings = Bindings.from_table(rows)
    build_s = time.perf_counter() - start
    del rows
    rng = np.random.default_rng(2)
    batches = [
        (
            numbered("", rng.integers(0, bindings.terminals, BATCH)),
            START + rng.integers(0, 2 * (SWAP - START), BATCH),
        )
        for _ in range(LOOKUPS // BATCH)
    ]
    start = time.perf_counter()
    for device_no, event_ms in batches:
        bindings.vehicle_at(device_no, event_ms)
    lookups_s = time.perf_counter() - start
    print(
        json.dumps(
            {
                "build_s": build_s,
                "lookups_per_s": LOOKUPS / lookups_s,
                "terminals": bindings.terminals,
                "peak_mb": peak_mb(),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""One contender in a process of its own: python -m bench.backfill_contenders NAME ARCHIVE OUT.

Prints {"seconds", "cpu_s", "peak_mb"} as JSON. The clocks start after the imports.
"""

import importlib
import json
import sys
import time
from pathlib import Path

import pyarrow as pa


def peak_mb() -> float:
    """Peak resident memory of this process, in MB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def main(name: str, archive: str, out: str) -> None:
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    contender = importlib.import_module(f"bench.backfill_contenders.{name}")
    Path(out).mkdir(parents=True)
    start, cpu = time.perf_counter(), time.process_time()
    contender.run(Path(archive), Path(out))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_s": cpu, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One backfill with several Beam workers: python -m bench.workers ARCHIVE OUT WORKERS."""

import sys
from pathlib import Path

from pipelines.backfill.spec import BackfillSpec
from runners.backfill.beam import run_backfill


def main(archive: Path, out: Path, workers: int) -> None:
    mode = "in_memory" if workers == 1 else "multi_processing"
    spec = BackfillSpec(
        archive=str(archive),
        bindings=str(archive / "device_binding.csv"),
        lake=str(out),
        schemas=str(archive / "schemas"),
    )
    run_backfill(spec, [f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

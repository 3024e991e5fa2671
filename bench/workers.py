"""One backfill with several Beam workers: python -m bench.workers ARCHIVE OUT WORKERS."""

import sys
from pathlib import Path

from runners.backfill.beam import run_backfill
from runners.config import Config


def main(archive: Path, out: Path, workers: int) -> None:
    mode = "in_memory" if workers == 1 else "multi_processing"
    run_backfill(
        archive=str(archive),
        bindings=str(archive / "device_binding.csv"),
        lake=str(out),
        config=Config(schemas=str(archive / "schemas")),
        beam_args=[f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

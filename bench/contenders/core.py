"""(a) This project: the backfill as users start it."""

from pathlib import Path


def run(archive: Path, out: Path) -> None:
    """Archive to the lake `out`."""
    from runners.backfill import run_backfill

    run_backfill(archive=str(archive), bindings=str(archive / "device_binding.csv"), lake=str(out))

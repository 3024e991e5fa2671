"""The backfill as users start it: Beam, lake, register, ledger."""

from pathlib import Path

from runners.backfill.beam import run_backfill
from runners.config import Config


def run(archive: Path, out: Path) -> None:
    """Archive to the lake `out`."""
    run_backfill(
        archive=str(archive),
        bindings=str(archive / "device_binding.csv"),
        lake=str(out),
        config=Config(schemas=str(archive / "schemas")),
    )

"""The backfill as users start it: Beam, lake, register, ledger."""

from pathlib import Path

from pipelines.backfill.spec import BackfillSpec
from runners.backfill.beam import run_backfill


def run(archive: Path, out: Path) -> None:
    """Archive to the lake `out`."""
    spec = BackfillSpec(
        archive=str(archive),
        bindings=str(archive / "device_binding.csv"),
        lake=str(out),
        schemas=str(archive / "schemas"),
    )
    run_backfill(spec)

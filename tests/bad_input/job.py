"""Runs the backfill of a hostile archive in a process of its own and prints what it took."""

import json
import resource
import sys

from pipelines.backfill.spec import BackfillSpec
from runners.backfill.beam import run_backfill

KIB_PER_MIB = 1024


def main(archive: str, lake: str) -> None:
    spec = BackfillSpec(archive, f"{archive}/bindings.csv", lake, schemas=f"{archive}/schemas")
    ledger = run_backfill(spec)
    peaks = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(json.dumps({"ledger": ledger, "peak_mib": max(peaks) // KIB_PER_MIB}))


if __name__ == "__main__":
    main(*sys.argv[1:])

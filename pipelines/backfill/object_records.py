"""What the lake remembers of an archive object while its facts are written, so that whoever is
killed half-way leaves nothing that nobody knows of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa

from connectors.lake.merged_objects import let_go
from connectors.lake.state import ObjectRecord
from pipelines.backfill.spec import BackfillSpec
from transforms.terminal_rules.verdicts import SCHEMA as VERDICTS

STATE = "_state/"


def by_line(parts: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Verdicts on an object, ascending by line."""
    table = pa.Table.from_batches(list(parts), VERDICTS).sort_by("line").combine_chunks()
    batches = table.to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=VERDICTS)


def begin(spec: BackfillSpec, record: ObjectRecord, before: ObjectRecord | None) -> None:
    """Before the first file appears: note what the object may have in the lake while `record`
    takes the place of `before`."""
    if before is None:
        spec.state.begin(record)
        return
    files = sorted({*record.files, *before.files})
    hours = sorted({*record.hours, *before.hours})
    spec.state.begin(replace(record, files=files, hours=hours))


def finish(
    spec: BackfillSpec, record: ObjectRecord, before: ObjectRecord | None, verdicts: pa.RecordBatch
) -> None:
    """When all files are there: let go of those the object no longer has, and remember it."""
    for stale in sorted(set(before.files if before else ()) - set(record.files)):
        if stale.startswith(STATE):
            spec.tables.delete(stale)
        else:
            let_go(spec.tables, stale)
    spec.state.write_verdicts(record.name, verdicts)
    spec.state.write_record(record)


def places_of(record: ObjectRecord, before: ObjectRecord | None) -> set[str]:
    """Folders of tables that an object has or had files in."""
    files = {*record.files, *(before.files if before else ())}
    return {name.rpartition("/")[0] for name in files if not name.startswith(STATE)}

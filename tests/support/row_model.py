"""The sink of rows in plain Python: a store by its contract, and the stream that fills it."""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa
import pyarrow.compute as pc

from connectors.sinks.tables import TELEMETRY, revision
from pipelines.row_revisions import gone_rows, looked_at, revised
from transforms.live.first_verdict import REMEMBERED, first_look, numbered, remembered
from transforms.live.revised_minutes import DOSSIER
from transforms.live.revised_rows import NEVER_LATE, first_rows, revised_rows
from transforms.live.written_versions import WrittenVersions


class Store:
    """Of several rows of one key in one part the highest revision counts, of equals the first."""

    def __init__(self):
        self.parts = defaultdict(dict)
        self.written = 0

    def write(self, table, rows):
        self.written += rows.num_rows
        assert rows.schema.equals(table.revised)
        rows.validate(full=True)
        for row in rows.to_pylist():
            day = row[table.time].date()
            key = tuple(row[name] for name in table.key)
            there = self.parts[table.name].get((day, key))
            if there is None or row["revision"] > there["revision"]:
                self.parts[table.name][day, key] = row

    def rows(self, table):
        """What readers see, by day and key, without what stores add."""
        left_out = ("revision", "gone", "object", "line")
        return {
            place: {name: value for name, value in row.items() if name not in left_out}
            for place, row in self.parts[table.name].items()
            if not row["gone"]
        }


class RowStream:
    """Judges every dossier that an upload joined, as if none were ever quiet."""

    def __init__(self, decoder, bindings, rules, store):
        self.core = (decoder, bindings, rules)
        self.store = store
        self.now_ms = 1_800_000_000_000
        self.written = WrittenVersions(0, NEVER_LATE // 2)
        self.register = REMEMBERED.empty_table()
        self.records = {}

    def starts_anew(self):
        """What was remembered of what was written is lost."""
        self.written = WrittenVersions(self.now_ms, NEVER_LATE // 2)

    def take(self, raw):
        """One batch of records: first look, then the dossiers of its terminals."""
        raw = numbered(raw)
        for row, place in enumerate(_places(raw)):
            self.records[place] = raw.slice(row, 1)
        found = first_look(raw, *self.core, NEVER_LATE)
        for look in found.looks:
            rows = first_rows(look)
            table = TELEMETRY[rows.message_type]
            self.store.write(table, looked_at(table, rows.telemetry))
        new = remembered(found.looks, raw, pa.nulls(raw.num_rows, pa.binary()))
        self.register = pa.concat_tables([self.register, pa.Table.from_batches([new])])
        self.judge(pc.unique(new.column("device_no")))

    def judge(self, terminals):
        """Judge terminals again."""
        rows = self.register.filter(pc.is_in(self.register["device_no"], terminals))
        rows = rows.append_column("version", pa.array([1] * rows.num_rows, pa.int64()))
        if not rows.num_rows:
            return
        (dossiers,) = rows.cast(DOSSIER).combine_chunks().to_batches()
        self.now_ms += 1
        known = revision(self.now_ms)
        for part in revised_rows(dossiers, self.written, self._again, *self.core):
            table = TELEMETRY[part.message_type]
            self.store.write(table, revised(table, part.telemetry, known))
            self.store.write(table, gone_rows(table, part.gone, known))

    def _again(self, places):
        rows = [self.records[place] for place in _places(places)]
        return pa.Table.from_batches(rows).combine_chunks().to_batches()[0]


def _places(batch):
    columns = (batch.column(name).to_pylist() for name in ("topic", "partition", "offset"))
    return list(zip(*columns, strict=True))

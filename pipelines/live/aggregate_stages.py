"""The Python stages of the aggregate job."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.kafka import topics
from pipelines.live.flink.arrow_blocks import read_block, stage_output
from pipelines.live.kafka_records import OUT_RECORD, copies, out_records, raw_batch
from pipelines.live.stage import Stage
from schemas.layouts import layout
from transforms.encode.topic_messages import encode_minutes, minute_keys
from transforms.facts.packed_partials import unpack
from transforms.facts.vehicle_minutes import Groups, merge
from transforms.live.first_verdict import CONTRIBUTIONS, REMEMBERED, first_look, remembered
from transforms.live.revised_minutes import DOSSIER, revise
from transforms.model.arrow_numpy import filled_int64, ranks

CHANGED = layout("changed_minute")


class LookStage(Stage):
    """Records to upload summaries with what each upload says by itself, and late uploads."""

    OUTPUTS = (REMEMBERED, OUT_RECORD)
    COUNTS = ("uploads_in", "uploads_counted", "uploads_dead", "uploads_late", "samples")

    def __call__(self, block: bytes) -> bytes:
        raw, headers = raw_batch(block)
        decoder, terminals = self.worker.now()
        live = self.live
        found = first_look(raw, decoder, terminals.bindings, live.rules, live.lateness_ms)
        late = [
            copies(raw, np.asarray(look.summaries.column("line"))[look.late], topics.LATE, "late")
            for look in found.looks
        ]
        self.tally["uploads_in"] += raw.num_rows
        self.tally["uploads_dead"] += found.dead.num_rows
        for look in found.looks:
            self.tally["uploads_counted"] += look.settled.good
            self.tally["uploads_late"] += int(look.late.sum())
            self.tally["samples"] += look.settled.telemetry.num_rows
        return stage_output(
            [
                (0, remembered(found.looks, raw, headers)),
                *((1, records) for records in late),
            ]
        )


class ReviseStage(Stage):
    """Whole dossiers to the contributions of all uploads in them that neighbours have a say in."""

    OUTPUTS = (CONTRIBUTIONS,)
    COUNTS = ("uploads_judged", "uploads_settled_again")

    def __call__(self, block: bytes) -> bytes:
        decoder, terminals = self.worker.now()
        dossiers = read_block(block, DOSSIER)
        revised = revise(
            dossiers,
            self.worker.read_again,
            decoder,
            terminals.bindings,
            self.live.rules,
            self.live.lateness_ms,
        )
        self.tally["uploads_judged"] += dossiers.num_rows
        self.tally["uploads_settled_again"] += revised.num_rows
        return stage_output([(0, revised)])


class MinutesStage(Stage):
    """All partials of changed minutes to records of `vehicle-minutes`."""

    OUTPUTS = (OUT_RECORD,)
    COUNTS = ("minutes_published", "minutes_emptied")

    def open(self) -> None:
        """Bindings are not needed here."""

    def __call__(self, block: bytes) -> bytes:
        rows = read_block(block, CHANGED)
        empty = rows.column("message_id").is_null()
        parts = rows.filter(pc.invert(empty))
        minutes = merged(parts)
        schema_id = self.worker.schema_id(topics.MINUTES)
        gone = rows.filter(empty)
        self.tally["minutes_published"] += minutes.num_rows
        self.tally["minutes_emptied"] += gone.num_rows
        return stage_output(
            [
                (0, _minute_records(minute_keys(minutes), encode_minutes(minutes, schema_id))),
                (0, _minute_records(minute_keys(_keys(gone)), pa.nulls(len(gone), pa.binary()))),
            ]
        )


def merged(parts: pa.RecordBatch) -> pa.Table:
    """Vehicle minutes with their revisions out of the partials of whole minutes (`CHANGED`)."""
    names = ("message_id", "device_no", "vehicle_id")
    keys = {name: parts.column(name) for name in names}
    keys["minute"] = parts.column("minute").cast(pa.timestamp("ms")).cast(pa.timestamp("ms", "UTC"))
    minutes = merge(unpack(parts.column("partial"), keys))
    vehicle, minute = ranks(parts.column("vehicle_id")), filled_int64(parts.column("minute"), 0)
    order = np.lexsort((minute, vehicle))
    if len(order):
        order = order[Groups(vehicle[order], minute[order]).starts]
    revision = parts.column("revision").take(pa.array(order))
    return minutes.set_column(minutes.schema.get_field_index("revision"), "revision", revision)


def _keys(rows: pa.RecordBatch) -> pa.Table:
    minute = rows.column("minute").cast(pa.timestamp("ms")).cast(pa.timestamp("ms", "UTC"))
    return pa.table({"vehicle_id": rows.column("vehicle_id"), "minute": minute})


def _minute_records(keys: pa.BinaryArray, values: pa.BinaryArray) -> pa.RecordBatch:
    return out_records(topics.MINUTES, pa.nulls(len(keys), pa.int64()), keys, values)

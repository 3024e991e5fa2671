"""The whole core in memory: raw messages to facts.

The jobs run the same steps with a spool and a lake between them; tests, notebooks and benchmarks
call this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from schemas.arrow import record_schema
from transforms.bindings.bindings import Bindings
from transforms.decode.decoder import Decoder, decode
from transforms.facts.telemetry import NO_VERDICTS, Prepared, prepare, settle
from transforms.facts.vehicle_minutes import PARTIALS, merge
from transforms.model.dead_letters import DEAD_SCHEMA
from transforms.model.thresholds import Rules
from transforms.model.uploads import concat_uploads
from transforms.terminal_rules.upload_summary import summarize
from transforms.terminal_rules.verdicts import SUMMARIES, judge

MINUTES = record_schema("vehicle_minute")


@dataclass
class Facts:
    """Telemetry batches by message type, vehicle minutes and dead letters; `good` and `duplicate`
    count uploads."""

    telemetry: dict[str, list[pa.RecordBatch]] = field(default_factory=lambda: defaultdict(list))
    minutes: pa.Table = field(default_factory=MINUTES.empty_table)
    dead: pa.Table = field(default_factory=DEAD_SCHEMA.empty_table)
    good: int = 0
    duplicate: int = 0


def facts(
    raws: Iterable[pa.RecordBatch], decoder: Decoder, bindings: Bindings, rules: Rules
) -> Facts:
    """Decode, judge and settle all of `raws` (schema `transforms.model.raw_messages.SCHEMA`).

    Each batch is of one object, and batches of the same object must follow one another.
    """
    waiting: list[tuple[str, Prepared]] = []
    summaries, dead = [], [DEAD_SCHEMA.empty_table()]
    for raw in raws:
        outcome = decode(raw, decoder)
        dead.append(pa.Table.from_batches([outcome.dead]))
        groups = defaultdict(list)
        for part in outcome.good:
            groups[part.message_type].append(part)
        for message_type in sorted(groups):
            prepared = prepare(concat_uploads(groups[message_type]), rules)
            name = raw.column("object")[0].as_py() or ""
            rows = summarize(prepared.uploads)
            objects = pa.repeat(pa.scalar(name), rows.num_rows)
            summaries.append(pa.RecordBatch.from_arrays([objects, *rows.columns], schema=SUMMARIES))
            waiting.append((name, prepared))
    verdicts = judge(pa.Table.from_batches(summaries, SUMMARIES), bindings.vehicle_at, rules)
    by_object = _by_object(verdicts)
    result = Facts(dead=pa.concat_tables(dead))
    partials = [PARTIALS.empty_table()]
    for name, prepared in waiting:
        settled = settle(prepared, by_object.get(name, NO_VERDICTS), bindings, rules)
        result.telemetry[settled.message_type].append(settled.telemetry)
        result.good += settled.good
        partials.append(pa.Table.from_batches([settled.partials]))
    result.duplicate = sum(len(prepared.uploads) for _, prepared in waiting) - result.good
    result.minutes = merge(pa.concat_tables(partials))
    return result


def _by_object(verdicts: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
    """Verdicts of each object, ascending by line (as `judge` returns them)."""
    encoded = verdicts.column("object").dictionary_encode()
    codes = np.asarray(encoded.indices)
    return {
        name: verdicts.filter(pa.array(codes == code))
        for code, name in enumerate(encoded.dictionary.to_pylist())
    }

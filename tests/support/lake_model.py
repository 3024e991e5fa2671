"""The live lake without an engine: its stages, and what the stateful steps between them keep in
plain Python. Whoever drives it decides when what happens."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from connectors.archive.offset_blocks import cut
from pipelines.backfill.spec import BackfillSpec
from pipelines.live.lake_sink.units import block_of, objects_of, progress
from pipelines.live.lake_sink.write_block import Core, write_records
from transforms.live.block_verdicts import Overrides, judge_dossiers, upload_summaries
from transforms.live.first_verdict import numbered
from transforms.live.revised_minutes import DOSSIER


@dataclass
class Unit:
    """What is known of a block."""

    end: int = 0
    dirty: bool = False
    overrides: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Known:
    """All that a checkpoint covers."""

    read: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    dossiers: dict[str, list[dict]] = field(default_factory=lambda: defaultdict(list))
    units: dict[str, Unit] = field(default_factory=lambda: defaultdict(Unit))
    unjudged: set[str] = field(default_factory=set)

    def dirty(self) -> list[str]:
        """Blocks that must be written."""
        return sorted(name for name, unit in self.units.items() if unit.dirty)


class LiveLake:
    """`topics` hold all records of partitions, as raw batches."""

    def __init__(
        self, job: BackfillSpec, topics: dict[tuple[str, int], pa.RecordBatch], core: Core
    ):
        self.job, self.topics, self.core = job, topics, core
        self.known = Known()
        self.saved = Known()

    def take(self, place: tuple[str, int], count: int) -> None:
        """The next records of a partition."""
        at = self.known.read[place]
        raw = numbered(self.topics[place].slice(at, count))
        self.known.read[place] += raw.num_rows
        for row in upload_summaries(raw, self.core.decoder, self.core.rules).to_pylist():
            self.known.dossiers[row["device_no"]].append(row)
            self.known.unjudged.add(row["device_no"])
        for row in progress(raw, self.job.block, self.job.block).to_pylist():
            unit = self.known.units[row["unit"]]
            unit.end, unit.dirty = max(unit.end, row["end"]), True

    def judge(self, device_no: str) -> None:
        """All uploads of a terminal, together."""
        self.known.unjudged.discard(device_no)
        rows = [row | {"version": 1} for row in self.known.dossiers[device_no]]
        dossier = pa.RecordBatch.from_pylist(rows, schema=DOSSIER)
        objects = objects_of(dossier, self.job.block, self.job.zone)
        overrides = judge_dossiers(dossier, objects, self.core.bindings, self.core.rules)
        for row in overrides.to_pylist():
            start = row["offset"] // self.job.block * self.job.block
            unit = self.known.units[f"{row['topic']}|{row['partition']}|{start}"]
            unit.dirty |= unit.overrides.get(row["offset"]) != row["verdict"]
            unit.overrides[row["offset"]] = row["verdict"]
            if row["verdict"] is None:
                del unit.overrides[row["offset"]]

    def write(self, name: str) -> None:
        """A block, whole."""
        unit = self.known.units[name]
        unit.dirty = False
        block = block_of(name, unit.end)
        records = self.topics[block.topic, block.partition]
        records = records.slice(block.start, block.end - block.start)
        offsets = np.array(sorted(unit.overrides), np.int64)
        packed = pa.array([unit.overrides[offset] for offset in offsets.tolist()], pa.binary())
        overrides = Overrides.unpack(offsets, packed)
        write_records(self.job, cut([records], block, self.job.zone), overrides, self.core)

    def checkpoint(self) -> None:
        """Remember what is known."""
        self.saved = copy.deepcopy(self.known)

    def crash(self) -> None:
        """Go on from the last checkpoint; what was written since stands."""
        self.known = copy.deepcopy(self.saved)

    def finish(self) -> None:
        """Read, judge and write all that is left."""
        for place, records in sorted(self.topics.items()):
            self.take(place, records.num_rows)
        for device_no in sorted(self.known.unjudged):
            self.judge(device_no)
        for name in self.known.dirty():
            self.write(name)

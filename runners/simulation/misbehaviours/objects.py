"""Objects written twice and objects no reader can use (M01, M17)."""

from __future__ import annotations

import numpy as np

from runners.simulation.archive import Archive, Written, gzip_bytes, object_name
from runners.simulation.misbehaviours.cases import Cases

COPIED_SHARE = 0.03
BROKEN_OFFSET = 9_000_000_000


class ObjectHabits:
    """Copies some sound objects, and adds broken ones when the run is over."""

    def __init__(self, cases: Cases, copies: bool, breaks: bool, rng: np.random.Generator) -> None:
        self._cases, self._copies, self._breaks, self._rng = cases, copies, breaks, rng
        self._copied = False
        self._sample: Written | None = None

    def copy(self, archive: Archive, written: list[Written]) -> None:
        """Write some objects again; only such whose every line is sound."""
        for item in written:
            sound = not any(line.dead or line.inner_duplicates for line in item.lines)
            if sound and (self._sample is None or len(item.lines) > 20):
                self._sample = item
            wanted = self._rng.random() < COPIED_SHARE or not self._copied
            if self._copies and sound and wanted:
                self._copied = True
                name = archive.copy(item)
                self._cases.put_line(
                    "M01", "object_copy", "", object=name, copy_of=item.name, lines=len(item.lines)
                )
                self._cases.extra_uploads["M01"] += len(item.lines) - 1

    def break_some(self, archive: Archive) -> None:
        """Add broken objects; they hold nothing but lines that stand elsewhere.

        The cut-off one holds no complete line: a reader may keep the complete lines of such an
        object or not.
        """
        if not self._breaks or self._sample is None:
            return
        item = self._sample
        sound = gzip_bytes(b"".join(line.payload + b"\n" for line in item.lines))
        cut = gzip_bytes(item.lines[0].payload)[:-20]
        names = [
            object_name(item.topic, item.partition, item.hour, BROKEN_OFFSET + number)
            for number in range(3)
        ]
        folder = item.name.rsplit("/", 1)[0]
        for name, content, reason in (
            (names[0], cut, "truncated gzip"),
            (names[1], b"", "empty object"),
            (names[2], b"this is not gzip\n", "not gzip"),
            (f"{folder}/{item.topic}+{item.partition}.json.gz", sound, "wrong name"),
        ):
            archive.put_broken(name, content, reason)
            self._cases.put_line("M17", reason.replace(" ", "_"), "", object=name, broken=True)
            self._cases.extra_uploads["M17"] -= 1

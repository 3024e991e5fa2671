"""The record of what was put in: one case an upload or line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from runners.simulation.times import iso
from runners.simulation.uploads import Upload

Case = tuple[dict[str, Any], Upload | None]


class Cases:
    """Collects cases by misbehaviour, and says what the facts must show of each."""

    def __init__(self) -> None:
        self._cases: defaultdict[str, list[Case]] = defaultdict(list)
        self.extra_uploads: defaultdict[str, int] = defaultdict(int)
        self.devices: defaultdict[str, set[str]] = defaultdict(set)

    def put(
        self, mis: str, kind: str, upload: Upload, flags: Iterable[str] = (), **more: Any
    ) -> None:
        """Note an upload that becomes facts; `flags` are those of the samples concerned."""
        case = {
            "kind": kind,
            "device_no": upload.terminal.device_no,
            "message_id": upload.message_id,
            "type": upload.kind,
            "flags": sorted(flags),
        } | more
        upload.case = case
        self.devices[mis].add(upload.terminal.device_no)
        self._cases[mis].append((case, upload))

    def put_line(self, mis: str, kind: str, device_no: str, **more: Any) -> dict[str, Any]:
        """Note a loose line and give its case, for the archive to say where it stands."""
        case = {"kind": kind, "device_no": device_no} | more
        self.devices[mis].add(device_no)
        self._cases[mis].append((case, None))
        return case

    def count(self, mis: str) -> int:
        """Cases noted of one misbehaviour."""
        return len(self._cases[mis])

    def report(self, ids: Iterable[str], names: dict[str, str]) -> dict[str, Any]:
        """Everything noted, by misbehaviour, as JSON."""
        report = {}
        for mis in sorted(ids):
            for case, upload in self._cases[mis]:
                if upload is not None:
                    case["flags"] = sorted(set(case["flags"]) | upload.flags)
                    case["event_time"] = upload.first_event_time
                    case["time_source"] = upload.time_source
                    case["received_time"] = iso(upload.received)
            cases = [case for case, _ in self._cases[mis]]
            report[mis] = {
                "name": names[mis],
                "uploads": len(cases) + self.extra_uploads[mis],
                "device_nos": sorted(self.devices[mis]),
                "cases": cases,
            }
        return report

"""What goes wrong in the field, put into a run on purpose; ids are the M-numbers of the rules."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from connectors.kafka.topics import device_topic
from runners.simulation.archive import Archive, Loose, Written
from runners.simulation.fleet import INSTALLED_BEFORE_MS, Binding, Bindings, Terminal
from runners.simulation.misbehaviours import contents, lines, values
from runners.simulation.misbehaviours.cases import Cases
from runners.simulation.misbehaviours.catalogue import ROLES
from runners.simulation.misbehaviours.objects import ObjectHabits
from runners.simulation.misbehaviours.roles import Role, Run
from runners.simulation.uploads import Upload

MISBEHAVIOURS = {
    "M01": "sent again, and samples twice in one upload",
    "M02": "same id, different body",
    "M03": "samples out of order",
    "M04": "hours late in a burst",
    "M05": "boot at 1970, 1980 or 2000",
    "M06": "clock in the future",
    "M07": "GPS week rollover",
    "M08": "zone error",
    "M09": "hour and day edges in Seoul",
    "M10": "position 0, 0",
    "M11": "position jumps",
    "M12": "parked jitter",
    "M13": "stale fix",
    "M14": "odometer decreases",
    "M15": "wrong types",
    "M16": "unknown fields",
    "M17": "broken lines and objects",
    "M18": "unknown type, wrong topic",
    "M19": "sentinels and impossible values",
    "M21": "terminal without binding",
    "M22": "overlapping and corrected bindings",
    "M24": "reboot loop",
    "M25": "ignition chatter",
    "M26": "terminal number spelled differently",
}
SHARE = 0.0008
"""Uploads of a type that each kind of spoiling takes in an hour, one at least."""


def chosen(ids: frozenset[str]) -> frozenset[str]:
    """The ids meant; "all" is every one. Raises ValueError for one that is not known."""
    if unknown := sorted(ids - set(MISBEHAVIOURS) - {"all"}):
        raise ValueError(f"unknown misbehaviour: {', '.join(unknown)}")
    return frozenset(MISBEHAVIOURS) if "all" in ids else ids


@dataclass(slots=True)
class Spoiled:
    """An hour's uploads after the misbehaviours, and loose lines among them."""

    uploads: list[Upload]
    lines: list[Loose]


class Misbehaviours:
    """Casts the roles, spoils uploads hour by hour and keeps the record."""

    def __init__(
        self, ids: frozenset[str], seed: int, vehicles: int, start_ms: int, end_ms: int
    ) -> None:
        self._ids = ids
        self._rng = np.random.default_rng([seed, 5])
        self._start, self._end = start_ms, end_ms
        self._cases = Cases()
        each = max(1, vehicles // 200)
        self._cast: list[Role] = [make() for mis, make in ROLES if mis in ids for _ in range(each)]
        self._role_of: dict[int, Role] = {}
        self._done: defaultdict[int, int] = defaultdict(int)
        self._spoilers = [
            spoiler for spoiler in (*contents.SPOILERS, *values.SPOILERS) if spoiler.mis in ids
        ]
        self._junk = [junk for junk in lines.JUNK if junk[0] in ids]
        self._objects = ObjectHabits(
            self._cases, "M01" in ids, "M17" in ids, np.random.default_rng([seed, 6])
        )
        self.fleet_size = max(vehicles, 2 * len(self._cast))
        self.roles = [role.mis for role in self._cast]

    def prepare(self, terminals: list[Terminal], bindings: Bindings) -> None:
        """Give the roles to the terminals built for them."""
        run = Run(self._start, self._end, bindings, len(terminals))
        actors = [terminal for terminal in terminals if terminal.role is not None]
        for role, terminal in zip(self._cast, actors, strict=True):
            role.cast(terminal, self._cases, run)
            self._role_of[terminal.index] = role
        if "M26" in self._ids:
            for number in lines.SHARED_NUMBERS:
                since = self._start - INSTALLED_BEFORE_MS
                bindings.add(Binding(number, run.spare_vehicle(), since, None))

    def spoil(self, uploads: list[Upload]) -> Spoiled:
        """Change an hour's uploads, and make the loose lines that go with them."""
        ordinary: defaultdict[str, list[Upload]] = defaultdict(list)
        for upload in uploads:
            role = self._role_of.get(upload.terminal.index)
            if role is None:
                ordinary[upload.kind].append(upload)
            else:
                upload.held = role.held
                role.spoil(upload)
        sizes = {kind: len(free) for kind, free in ordinary.items()}
        for kind in sorted(ordinary):
            self._rng.shuffle(ordinary[kind])
        loose = self._junk_lines(ordinary)
        order = sorted(range(len(self._spoilers)), key=lambda at: (self._done[at], at))
        for at in order:
            wanted = self._share(sizes.get(self._spoilers[at].upload_kind, 0))
            loose += self._spoil_some(at, ordinary[self._spoilers[at].upload_kind], wanted)
        if "M18" in self._ids:
            self._misroute(ordinary["gps"])
        if "M01" in self._ids:
            for kind in sorted(sizes):
                loose += self._send_again(ordinary[kind], 3 * self._share(sizes[kind]))
        return Spoiled(uploads, loose)

    def settle(self) -> list[Upload]:
        """Uploads held back, with their expected clock."""
        return [upload for role in self._cast if role.held for upload in role.settle()]

    def copy_objects(self, archive: Archive, written: list[Written]) -> None:
        """The old sink's habit of writing some objects twice."""
        self._objects.copy(archive, written)

    def break_objects(self, archive: Archive) -> None:
        """Objects no reader can use."""
        self._objects.break_some(archive)

    def report(self) -> dict[str, Any]:
        """What was put in, by misbehaviour."""
        return self._cases.report(self._ids, MISBEHAVIOURS)

    def _share(self, size: int) -> int:
        return max(1, round(size * SHARE))

    def _spoil_some(self, at: int, free: list[Upload], wanted: int) -> list[Loose]:
        spoiler = self._spoilers[at]
        loose: list[Loose] = []
        passed: list[Upload] = []
        while free and wanted and len(passed) < 40:
            upload = free.pop()
            told = spoiler.spoil(upload, self._rng)
            if told is None:
                passed.append(upload)
                continue
            wanted -= 1
            self._done[at] += 1
            again = told.pop("again", None)
            self._cases.put(spoiler.mis, spoiler.kind, upload, **told)
            if again is not None:
                upload.repeated = True
                loose.append(self._again(upload, orjson.dumps(again[0]), again[1]))
        free += passed
        return loose

    def _again(self, upload: Upload, payload: bytes, arrival: int, received: int = 0) -> Loose:
        upload.repeated = True
        return Loose(
            device_topic(upload.kind), upload.key, arrival, payload, repeats=upload.message_id,
            samples=upload.samples, inner_duplicates=upload.inner_duplicates, received=received,
        )  # fmt: skip

    def _send_again(self, free: list[Upload], wanted: int) -> list[Loose]:
        loose = []
        kinds = list(lines.RESENDS)
        for upload in free[: max(wanted, min(len(kinds), len(free) // 2))]:
            kind = kinds[self._done[-1] % len(kinds)]
            self._done[-1] += 1
            payload, arrival, received = lines.resend(upload, kind, self._rng)
            self._cases.put("M01", kind, upload, delay_s=(arrival - upload.arrival) // 1000)
            loose.append(self._again(upload, payload, arrival, received))
        del free[: len(loose)]
        return loose

    def _misroute(self, free: list[Upload]) -> None:
        for upload in free[:1]:
            upload.topic = device_topic("log")
            self._cases.put("M18", "wrong_topic", upload, topic=device_topic("log"))
        del free[:1]

    def _junk_lines(self, ordinary: dict[str, list[Upload]]) -> list[Loose]:
        loose = []
        for mis, kind, upload_kind, error, spoil in self._junk:
            free = ordinary[upload_kind]
            if not free:
                continue
            upload = free[int(self._rng.integers(len(free)))]
            payload = spoil(upload.body, upload.encode())
            device = upload.terminal.device_no
            case = self._cases.put_line(mis, kind, device, error_type=error, size=len(payload))
            arrival = upload.arrival + int(self._rng.integers(9000))
            topic = device_topic(upload_kind)
            loose.append(Loose(topic, device, arrival, payload, dead=True, case=case))
        return loose

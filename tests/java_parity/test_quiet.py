"""An upload that the Java side calls quiet changes no verdict, and none changes its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import MESSAGE_TYPES, REPORT_TYPES
from transforms.bindings.bindings import SCHEMA as BINDINGS
from transforms.bindings.bindings import Bindings
from transforms.live.first_verdict import HISTORY, QUIET, SUSPECT
from transforms.model.thresholds import Rules
from transforms.terminal_rules.clock import DEVICE, FALLBACK, Times, judge_clocks
from transforms.terminal_rules.verdicts import SCHEMA, SUMMARIES, judge

KEEP_MS = 3_600_000
START_MS = 1_705_244_400_000
EPOCH_MS = 946_684_800_000
RULES = Rules()
clock = count(1)
terminals = count(1)


@dataclass(frozen=True)
class Upload:
    """An upload summary without its terminal; all of it in ms. `line` is its place as well."""

    message_id: str
    message_type: str
    line: int
    received_ms: int
    latest_ms: int
    boot_count: int | None
    seq: int | None
    uptime_s: int | None
    filled: int
    content: int
    odometer_m: int | None
    ignition_on: bool | None

    def summary(self, device_no: str) -> dict:
        index = MESSAGE_TYPES.index(self.message_type)
        row = vars(self) | {"object": "", "device_no": device_no, "samples": 1}
        return row | {"message_type": index}

    def first_look(self) -> tuple[int, int]:
        """Kind and event time, as `live.first_verdict` finds them for an upload by itself."""
        boot_count, uptime_s = (-1 if v is None else v for v in (self.boot_count, self.uptime_s))
        alone = (0, self.received_ms, self.latest_ms, boot_count, uptime_s)
        verdict = judge_clocks(Times(*(np.array([v], np.int64) for v in alone)), RULES.clock)
        fallback = verdict.source[0] == FALLBACK
        event = self.received_ms if fallback else self.latest_ms - int(verdict.offset_ms[0])
        if verdict.source[0] != DEVICE or verdict.flags[0]:
            return SUSPECT, event
        return HISTORY if self.message_type in REPORT_TYPES else QUIET, event


def ask(model, now_ms, device_no, upload):
    kind, event = upload.first_look()
    return model.dossier(
        now_ms,
        device_no,
        upload.message_id,
        kind,
        MESSAGE_TYPES.index(upload.message_type),
        0,
        upload.line,
        upload.received_ms,
        event,
        upload.content,
        upload.odometer_m,
        None if upload.ignition_on is None else int(upload.ignition_on),
    )


def verdicts(uploads, device_no, bindings):
    """What the rules say of each line: `SCHEMA` without its place."""
    rows = [upload.summary(device_no) for upload in uploads]
    table = pa.Table.from_pylist(rows, schema=SUMMARIES)
    exceptions = judge(table, bindings.vehicle_at, RULES).to_pylist()
    silent = {
        upload.line: (True, True, 0, DEVICE, upload.received_ms, 0, None) for upload in uploads
    }
    return silent | {
        row["line"]: tuple(row[name] for name in SCHEMA.names[2:]) for row in exceptions
    }


SECONDS = st.sampled_from([1, 2, 10, 29, 30, 31, 60, 300, 599, 600, 601])
AHEAD_S = st.sampled_from([0, 0, 0, -1, -100, -400, 200, 400, 1800, 3600, -3600, 100_000])


@st.composite
def arrivals(draw):
    """Uploads of one terminal with how long after the one before each came."""
    size = draw(st.integers(2, 10))
    lines = draw(st.permutations(range(size)))
    event, found = 0, []
    for number, line in enumerate(lines):
        waited = draw(st.sampled_from([2, 2, 2, 1000, KEEP_MS // 3, KEEP_MS - 1, KEEP_MS]))
        if found and draw(st.integers(0, 5)) == 0:
            found.append((waited, copied(draw, line, draw(st.sampled_from(found))[1])))
            continue
        step = draw(SECONDS) * 1000
        event += step if draw(st.integers(0, 4)) else -step
        found.append((waited, fresh(draw, f"m{number}", line, START_MS + event)))
    return found


def fresh(draw, message_id, line, event):
    """An upload of its own; its clock is good unless drawn otherwise."""
    kind = draw(st.sampled_from(["log", "log", "log", "boot", "gps"]))
    ahead = draw(AHEAD_S) * 1000
    uptime_s = draw(st.sampled_from([None, 5, 70]))
    latest = event
    if draw(st.integers(0, 9)) == 0:
        latest = EPOCH_MS + draw(SECONDS) * 1000
    log = kind == "log"
    return Upload(
        message_id=message_id,
        message_type=kind,
        line=line,
        received_ms=event - ahead,
        latest_ms=latest,
        boot_count=draw(st.sampled_from([None, 1, 2])),
        seq=None,
        uptime_s=uptime_s,
        filled=draw(st.integers(1, 3)),
        content=line,
        odometer_m=draw(st.none() | st.integers(0, 6)) if log else None,
        ignition_on=draw(st.sampled_from([None, False, True, True])) if log else None,
    )


def copied(draw, line, upload):
    """The same upload once more, received another time; now and then it says something else."""
    received = upload.received_ms + draw(st.sampled_from([-1000, 0, 1000]))
    again = replace(upload, line=line, received_ms=received)
    if draw(st.integers(0, 2)):
        return again
    other = fresh(draw, upload.message_id, line, upload.latest_ms)
    return replace(other, message_type=upload.message_type, received_ms=received)


@st.composite
def sittings(draw):
    """Instants at which the terminal was moved to another of two vehicles, and back."""
    return sorted(START_MS + draw(SECONDS) * 1000 for _ in range(draw(st.integers(0, 3))))


def bindings_of(device_no, moves):
    starts = [START_MS - 10 * KEEP_MS, *moves]
    rows = [
        {
            "device_no": device_no,
            "vehicle_id": f"v{number % 2}",
            "valid_from": start,
            "valid_to": end,
            "binding_version": number,
        }
        for number, (start, end) in enumerate(zip(starts, [*moves, None], strict=True))
    ]
    return Bindings.from_table(pa.Table.from_pylist(rows, schema=BINDINGS))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arrivals(), sittings())
def test_quiet_uploads_change_no_verdict_and_get_none(model, found, moves):
    device_no = f"t{next(terminals)}"
    bindings = bindings_of(device_no, moves)
    now = next(clock) * 100 * KEEP_MS
    last_came: dict[Upload, int] = {}
    for waited, upload in found:
        now += waited
        last_came = {one: came for one, came in last_came.items() if now - came < KEEP_MS}
        others = list(last_came)
        first = next((o for o in others if o.message_id == upload.message_id), upload)
        last_came |= {first: now, upload: now}
        dossier = ask(model, now, device_no, upload)
        if dossier is not None:
            assert sorted(dossier) == sorted(one.line for one in last_came)
            continue
        before = verdicts(others, device_no, bindings)
        after = verdicts([*others, upload], device_no, bindings)
        own = after.pop(upload.line)
        assert after == before
        if first is not upload:
            assert own[:2] == (False, False)
        else:
            assert own == (True, True, 0, DEVICE, upload.received_ms, 0, None)

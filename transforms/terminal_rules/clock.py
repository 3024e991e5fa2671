"""Stage 5, clock: which uploads have a good clock, and by how much other clocks are off
(M05-M08)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.model.arrow_numpy import NO_TIME
from transforms.model.quality_flags import BIT
from transforms.model.thresholds import Clock

DAY_MS = 86_400_000
EPOCHS_MS = (0, 315_964_800_000, 946_684_800_000)
ROLLOVER_MS = 7168 * DAY_MS
ZONE_STEP_MS = 1_800_000
SOURCES = ("DEVICE", "DEVICE_CORRECTED", "RECEIVED_FALLBACK")
DEVICE, CORRECTED, FALLBACK = range(3)


@dataclass(frozen=True)
class Times:
    """What the clock rules need: int64 of shape (uploads,), one terminal after another, in received
    order within each; times in epoch ms.

    `latest_ms` is the greatest device time. It is NO_TIME, and `boot_count`, `uptime_s` are -1
    where unknown."""

    terminal: np.ndarray
    received_ms: np.ndarray
    latest_ms: np.ndarray
    boot_count: np.ndarray
    uptime_s: np.ndarray


@dataclass(frozen=True)
class ClockVerdict:
    """Arrays of shape (uploads,): event time = device time - `offset_ms` (int64), or the receive
    time where `source` (int8, an index into `SOURCES`) is FALLBACK; `flags` are int64 bits."""

    offset_ms: np.ndarray
    source: np.ndarray
    flags: np.ndarray


def judge_clocks(times: Times, rules: Clock) -> ClockVerdict:
    """The clock rules of docs/rules.md, section 4; the first that applies decides."""
    count = len(times.terminal)
    offset = np.zeros(count, np.int64)
    source = np.full(count, DEVICE, np.int8)
    flags = np.zeros(count, np.int64)
    open_ = times.latest_ms != NO_TIME
    source[~open_] = FALLBACK
    flags[~open_] |= BIT["DEVICE_TIME_MISSING"]
    latest = np.where(open_, times.latest_ms, times.received_ms)
    difference = latest - times.received_ms

    epoch_start = _epoch_of(latest, rules)
    epoch = open_ & (epoch_start >= 0)
    open_ &= ~epoch

    rolled = open_ & (-difference > ROLLOVER_MS - int(rules.rollover_slack_days * DAY_MS))
    late_by, turns = _unroll_weeks(latest, times.received_ms, rules)
    mended = rolled & (late_by <= int(rules.rollover_slack_days * DAY_MS)) & (turns > 0)
    offset[mended] = -turns[mended] * ROLLOVER_MS
    source[mended] = CORRECTED
    flags[mended] |= BIT["GPS_ROLLOVER_CORRECTED"]
    lost = rolled & ~mended
    source[lost] = FALLBACK
    flags[lost] |= BIT["CLOCK_EPOCH"]
    open_ &= ~rolled

    zone, in_run = _zones(times, latest, np.where(open_, difference, 0), rules)
    shifted = open_ & in_run
    offset[shifted] = zone[shifted] * ZONE_STEP_MS
    source[shifted] = CORRECTED
    flags[shifted] |= BIT["TZ_CORRECTED"]
    flags[open_ & (zone != 0) & ~in_run] |= BIT["TZ_SUSPECT"]
    open_ &= ~shifted

    ahead = open_ & (difference > int(rules.future_tolerance_s * 1000))
    flags[ahead] |= BIT["CLOCK_FUTURE"]
    source[ahead] = FALLBACK
    near = ahead & (difference <= int(rules.future_limit_s * 1000))
    for members, median in _stable_runs(times.terminal, near, difference, rules):
        offset[members] = median
        source[members] = CORRECTED
    good = open_ & ~ahead

    flags[epoch] |= BIT["CLOCK_EPOCH"]
    source[epoch] = FALLBACK
    verdict = ClockVerdict(offset, source, flags)
    _date_by_boot(times, latest, epoch, epoch_start, good, verdict, rules)
    return verdict


def _epoch_of(latest: np.ndarray, rules: Clock) -> np.ndarray:
    """int64 of shape (uploads,): the epoch (ms) to which the clock was reset shortly before, -1 for
    none."""
    epoch_ms = np.full(len(latest), -1, np.int64)
    for epoch in EPOCHS_MS:
        near = (latest >= epoch - DAY_MS) & (latest < epoch + int(rules.epoch_days * DAY_MS))
        epoch_ms[near] = epoch
    return epoch_ms


def _unroll_weeks(
    latest: np.ndarray, received: np.ndarray, rules: Clock
) -> tuple[np.ndarray, np.ndarray]:
    """How many turns of 1024 weeks can be added without passing the receive time, and how late (ms)
    the upload then is; returned as (late, turns)."""
    room = received + int(rules.future_tolerance_s * 1000) - latest
    turns = room // ROLLOVER_MS
    return received - (latest + turns * ROLLOVER_MS), turns


def _runs(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of maximal runs in which all keys stay equal."""
    change = np.ones(len(keys[0]), bool)
    change[1:] = False
    for key in keys:
        change[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(change)
    return starts, np.diff(np.append(starts, len(keys[0])))


def _zones(
    times: Times, latest: np.ndarray, difference: np.ndarray, rules: Clock
) -> tuple[np.ndarray, np.ndarray]:
    """By how many half hours each upload's clock seems to be off (0: none), and whether enough
    uploads in a row agree (M08)."""
    steps = np.rint(difference / ZONE_STEP_MS).astype(np.int64)
    close = np.abs(difference - steps * ZONE_STEP_MS) <= int(rules.zone_tolerance_s * 1000)
    steps = np.where(close & (np.abs(steps) <= rules.zone_steps), steps, 0)
    if not steps.any():
        return steps, np.zeros(len(steps), bool)
    starts, lengths = _runs(times.terminal, steps)
    ends = starts + lengths - 1
    received_span = times.received_ms[ends] - times.received_ms[starts]
    device_span = np.abs(latest[ends] - latest[starts])
    long = (lengths >= rules.zone_uploads) & (steps[starts] != 0)
    return steps, np.repeat(long & (2 * received_span >= device_span), lengths)


def _stable_runs(
    terminal: np.ndarray, near: np.ndarray, difference: np.ndarray, rules: Clock
) -> list[tuple[np.ndarray, int]]:
    """Runs of uploads whose clocks are ahead by the same amount (M06): the row numbers of each, and
    the lower median (ms)."""
    runs: list[tuple[np.ndarray, int]] = []
    if not near.any():
        return runs
    spread = rules.stable_spread_s * 1000
    starts, lengths = _runs(terminal, near)
    for start, length in zip(starts, lengths, strict=True):
        if not near[start]:
            continue
        begin, low, high = start, difference[start], difference[start]
        for here in range(start + 1, start + length + 1):
            inside = here < start + length
            if inside:
                value = difference[here]
                if max(high, value) - min(low, value) < spread:
                    low, high = min(low, value), max(high, value)
                    continue
            if here - begin >= rules.stable_uploads:
                members = np.arange(begin, here)
                ordered = np.sort(difference[members])
                runs.append((members, int(ordered[(len(ordered) - 1) // 2])))
            if inside:
                begin, low, high = here, difference[here], difference[here]
    return runs


def _date_by_boot(
    times: Times,
    latest: np.ndarray,
    epoch: np.ndarray,
    epoch_start: np.ndarray,
    good: np.ndarray,
    verdict: ClockVerdict,
    rules: Clock,
) -> None:
    """M05: date uploads with a reset clock by another upload of the same boot that has a good clock
    and an uptime. Sets their offset and source in `verdict`."""
    wanted = np.flatnonzero(epoch & (times.boot_count >= 0))
    if not len(wanted):
        return
    boots: dict[tuple[int, int], int] = {}
    for row in np.flatnonzero(good & (times.uptime_s >= 0) & (times.boot_count >= 0)):
        key = (int(times.terminal[row]), int(times.boot_count[row]))
        boots.setdefault(key, int(latest[row] - times.uptime_s[row] * 1000))
    for row in wanted:
        instant = boots.get((int(times.terminal[row]), int(times.boot_count[row])))
        uptime = times.uptime_s[row] * 1000
        if times.uptime_s[row] < 0:
            uptime = latest[row] - epoch_start[row]
        if instant is None or uptime < 0:
            continue
        event = instant + int(uptime)
        if event <= times.received_ms[row] + rules.future_tolerance_s * 1000:
            verdict.offset_ms[row] = latest[row] - event
            verdict.source[row] = CORRECTED

"""Stage 6, reports: odometer resets, reboot loops, ignition chatter (M14, M24, M25).

All functions take reports of one terminal after another, in event-time order within each;
`terminal` and `vehicle` are codes, equal for the same terminal or vehicle.
"""

from __future__ import annotations

import numpy as np

from transforms.model.thresholds import Terminal


def odometer_resets(
    terminal: np.ndarray, vehicle: np.ndarray, odometer_m: np.ndarray
) -> np.ndarray:
    """bool of shape (logs,): the odometer is below the previous one of the same terminal and
    vehicle."""
    reset = np.zeros(len(terminal), bool)
    same = (terminal[1:] == terminal[:-1]) & (vehicle[1:] == vehicle[:-1])
    reset[1:] = same & (odometer_m[1:] < odometer_m[:-1])
    return reset


def reboot_loops(terminal: np.ndarray, event_ms: np.ndarray, rules: Terminal) -> np.ndarray:
    """bool of shape (boots,): the boot is one of `reboot_count` or more within
    `reboot_window_s`."""
    looping = np.zeros(len(terminal), bool)
    span = rules.reboot_count - 1
    if len(terminal) <= span:
        return looping
    same = terminal[span:] == terminal[:-span] if span else np.ones(len(terminal), bool)
    short = event_ms[span:] - event_ms[: len(event_ms) - span] <= rules.reboot_window_s * 1000
    for start in np.flatnonzero(same & short):
        looping[start : start + span + 1] = True
    return looping


def ignition_chatter(
    terminal: np.ndarray, event_ms: np.ndarray, on: np.ndarray, rules: Terminal
) -> tuple[np.ndarray, np.ndarray]:
    """Both bool of shape (logs,): whether the reported state is chatter, and the ignition state
    that counts. `on` is what was reported, `event_ms` epoch ms."""
    counted = on.copy()
    chatter = np.zeros(len(on), bool)
    if len(on) < 3:
        return chatter, counted
    change = np.ones(len(on), bool)
    change[1:] = (terminal[1:] != terminal[:-1]) | (on[1:] != on[:-1])
    starts = np.flatnonzero(change)
    ends = np.append(starts[1:], len(on))
    inner = np.zeros(len(starts), bool)
    inner[1:-1] = (terminal[starts[1:-1]] == terminal[starts[:-2]]) & (
        terminal[starts[1:-1]] == terminal[starts[2:]]
    )
    brief = np.zeros(len(starts), bool)
    brief[:-1] = event_ms[starts[1:]] - event_ms[starts[:-1]] < rules.ignition_debounce_s * 1000
    for run in np.flatnonzero(inner & brief):
        chatter[starts[run] : ends[run]] = True
        counted[starts[run] : ends[run]] = counted[starts[run] - 1]
    return chatter, counted

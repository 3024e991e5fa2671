"""Which misbehaviour needs which terminals."""

from __future__ import annotations

from collections.abc import Callable

from runners.simulation.misbehaviours import clocks, habits
from runners.simulation.misbehaviours.roles import Role

WEEK_MS = 7 * 86_400_000
HOUR_MS = 3_600_000

ROLES: tuple[tuple[str, Callable[[], Role]], ...] = (
    ("M04", lambda: clocks.Burst("basement", 0)),
    ("M04", lambda: clocks.Burst("kept_for_hours", 4 * HOUR_MS + 420_000)),
    ("M05", lambda: clocks.WrongEpoch("with_uptime", "always")),
    ("M05", lambda: clocks.WrongEpoch("uptime_of_good_uploads", "good uploads only")),
    ("M05", lambda: clocks.WrongEpoch("without_uptime", "never")),
    ("M06", clocks.Ahead),
    ("M06", lambda: clocks.Useless("unstable", 1)),
    ("M06", lambda: clocks.Useless("beyond_24h", 10)),
    ("M06", lambda: clocks.Useless("year_2099", 10)),
    ("M07", lambda: clocks.Constant(
        "M07", "week_rollover", -1024 * WEEK_MS, "GPS_ROLLOVER_CORRECTED")),
    ("M08", lambda: clocks.Constant("M08", "kst_as_utc", 9 * HOUR_MS, "TZ_CORRECTED")),
    ("M08", lambda: clocks.Constant("M08", "utc_plus_8", -HOUR_MS, "TZ_CORRECTED")),
    ("M08", clocks.Isolated),
    ("M09", habits.HourEdges),
    ("M14", habits.OdometerReset),
    ("M21", habits.Unbound),
    ("M22", habits.Overlap),
    ("M22", habits.Correction),
    ("M24", habits.RebootLoop),
    ("M25", habits.IgnitionChatter),
    ("M26", lambda: habits.OddName("lower_case")),
    ("M26", lambda: habits.OddName("padded")),
    ("M26", lambda: habits.OddName("numeric")),
)  # fmt: skip

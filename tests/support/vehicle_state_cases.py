"""The newest state of vehicles by example: rows in, the row of each group out.

Each case is true whatever the order and cut in which its rows are written; where `in_order`, in any
cut of the order given. `Rounds` writes many shuffles of all cases beside each other: each is of
vehicles, terminals and uploads of its own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from connectors.sinks.tables import TELEMETRY, first_look
from tests.support.vehicle_state import judged, row, table, value_of
from transforms.facts.vehicle_state import GROUPS, seen

ALL_GROUPS = (*GROUPS, seen("device_no"))


@dataclass(frozen=True)
class Case:
    """`rows`, each of the telemetry table that its topic names, and by vehicle and group the row
    that is the newest; a group that is not named is set by none."""

    name: str
    rows: list[dict]
    newest: dict[str, dict[str, dict]]
    in_order: bool = False


def log(second, message_id, vehicle_id="V1", **given):
    """A row of the table `log`, with nothing in it but what is given."""
    return row(second, vehicle_id, message_id=message_id, **given)


def gps(second, message_id, vehicle_id="V1", **given):
    """A row of the table `gps`."""
    return log(second, message_id, vehicle_id, topic="message-gps", **given)


def at(latitude, **given):
    """A position."""
    return {"lat_deg": latitude, "lon_deg": 127.0, **given}


def alone(name, *rows, wins, group="speed", in_order=False):
    """A case of rows of one vehicle with one group, of which one wins; who was seen last is the
    same row."""
    return Case(name, list(rows), {"V1": {group: wins, "seen": wins}}, in_order)


def _cases() -> Iterator[Case]:
    yield from _what_sets_a_group()
    yield from _ties()
    yield from _revisions()
    yield from _taken_back()


def _what_sets_a_group() -> Iterator[Case]:
    good = gps(0, "good", **at(37.5, heading_deg=90.0, accuracy_m=4.0))
    jump = gps(1, "jump", **at(48.0), speed_kmh=50.0, quality_flags=["TZ_SUSPECT", "GPS_JUMP"])
    newest = {"position": good, "speed": jump, "seen": jump}
    yield Case("a position that jumped is none", [good, jump], {"V1": newest})
    only_jump = gps(0, "jump", **at(48.0), quality_flags=["GPS_JUMP"])
    yield Case("a jump alone leaves no position", [only_jump], {"V1": {"seen": only_jump}})

    turned = gps(1, "turned", heading_deg=180.0, accuracy_m=3.0)
    half = gps(2, "half", lat_deg=38.0)
    newest = {"position": good, "seen": half}
    yield Case("a position has both coordinates", [good, turned, half], {"V1": newest})

    nan, infinite = math.nan, math.inf
    lost = gps(1, "lost", **at(nan), speed_kmh=nan)
    far = gps(2, "far", lat_deg=37.0, lon_deg=-infinite, speed_kmh=infinite)
    slow = gps(0, "slow", speed_kmh=3.0)
    rows = [good, slow, lost, far]
    newest = {"position": good, "speed": slow, "seen": far}
    yield Case("NaN and infinities are no values", rows, {"V1": newest})
    dark = log(3, "dark", aux_battery_v=infinite, backup_battery_v=nan)
    dim = log(1, "dim", aux_battery_v=nan, backup_battery_v=3.5)
    bright = log(0, "bright", aux_battery_v=12.5)
    newest = {"battery": dim, "seen": dark}
    yield Case("a number that is none becomes null", [bright, dim, dark], {"V1": newest})

    doors = log(1, "doors", door_state_bits=5)
    shut = log(0, "shut", locked=True, door_open=False)
    yield alone("one column of a group sets all of it", shut, doors, wins=doors, group="lock")
    report = log(0, "report", odometer_m=5, ignition_on=True, fuel_level_pct=50.0, ev_charging=True)
    later = log(60, "later", ignition_on=False, engine_running=True, fuel_level_pct=40.0)
    drive = gps(70, "drive", **at(38.0), speed_kmh=30.0)
    newest = {
        **{"odometer": report, "ignition": later, "energy": later},
        **{"position": drive, "speed": drive, "seen": drive},
    }
    yield Case("each group has its own row", [report, later, drive], {"V1": newest})
    other = log(90, "other", "V2", odometer_m=7)
    nobody = log(95, "nobody", None, odometer_m=8)
    newest = {"V1": newest, "V2": {"odometer": other, "seen": other}}
    yield Case("each vehicle has its own", [report, later, drive, other, nobody], newest)
    gone = log(99, "gone", odometer_m=9, gone=True)
    newest = {"V1": {"odometer": report, **dict.fromkeys(("ignition", "energy", "seen"), report)}}
    yield Case("a row that is gone sets nothing", [report, gone], newest)


def _ties() -> Iterator[Case]:
    early = log(9, "z", received_s=10, speed_kmh=1.0)
    late = log(9, "a", received_s=11, speed_kmh=2.0)
    yield alone("the later event, whenever it came", late, log(8, "y", received_s=99), wins=late)
    yield alone("of one event the later received", early, late, wins=late)
    upper, lower = log(9, "B", speed_kmh=1.0), log(9, "a", speed_kmh=2.0)
    yield alone("of one instant the higher message, by bytes", upper, lower, wins=lower)
    low = log(9, "a", revision=9, speed_kmh=1.0, topic="message-log", partition=7, offset=7)
    high = log(9, "b", revision=1, speed_kmh=2.0, partition=0, offset=0)
    yield alone("neither revision nor place decides a tie", low, high, wins=high)
    samples = [gps(9, "m", sample_idx=index, speed_kmh=float(index)) for index in (2, 9, 10)]
    yield alone("of one upload the higher sample, as a number", *samples, wins=samples[2])
    known_better = log(9, "a", revision=judged(), speed_kmh=1.0)
    yield alone("a verdict alone wins no tie", known_better, high, wins=high)


def _revisions() -> Iterator[Case]:
    seemed = log(3600, "m", speed_kmh=1.0)
    is_so = log(60, "m", speed_kmh=1.0, revision=judged())
    yield alone("of an upload the higher revision, though it is earlier", seemed, is_so, wins=is_so)
    again = log(61, "m", speed_kmh=1.0, revision=judged(2))
    yield alone("of three revisions the highest", seemed, is_so, again, wins=again)
    first, second = (int(first_look([at_ms], [0])[0]) for at_ms in (1_000, 2_000))
    copy = log(20, "m", received_s=2, revision=second, speed_kmh=2.0)
    original = log(10, "m", received_s=1, revision=first, speed_kmh=1.0)
    yield alone("of copies of an upload that was received first", original, copy, wins=original)


def _taken_back() -> Iterator[Case]:
    seemed = log(3600, "m", speed_kmh=1.0, **at(37.5))
    is_so = log(60, "m", speed_kmh=1.0, revision=judged(), **at(37.5))
    meanwhile = log(120, "n", speed_kmh=2.0)
    newest = {"position": is_so, "speed": meanwhile, "seen": meanwhile}
    rows = [seemed, is_so, meanwhile]
    yield Case("what moved back gives way to what comes", rows, {"V1": newest}, True)
    jumped = log(3600, "m", speed_kmh=1.0, revision=judged(), quality_flags=["GPS_JUMP"], **at(1.0))
    newest = {"speed": jumped, "seen": jumped}
    yield Case("a position that turns out a jump", [seemed, jumped], {"V1": newest}, True)
    silent = log(3600, "m", revision=judged())
    yield Case("a value that turns out none", [seemed, silent], {"V1": {"seen": silent}}, True)
    samples = [gps(at_s, "m", sample_idx=at_s, speed_kmh=float(at_s)) for at_s in (1, 2, 3)]
    better = [one | {"revision": judged(), "speed_kmh": None} for one in samples[2:]]
    better = [one | {"revision": judged()} for one in samples[:2]] + better
    newest = {"speed": better[1], "seen": better[2]}
    yield Case("another sample of the upload", samples + better, {"V1": newest}, True)


def _moved() -> Iterator[Case]:
    """Uploads that turn out to be of another vehicle, or of none."""
    wrong = log(3600, "m", "V2", speed_kmh=1.0, **at(37.5))
    right = log(60, "m", "V1", speed_kmh=1.0, revision=judged(), **at(37.5))
    newest = {"position": right, "speed": right, "seen": right}
    yield Case("an upload of another vehicle", [wrong, right], {"V1": newest, "V2": {}}, True)
    unbound = log(60, "m", None, speed_kmh=1.0, revision=judged(), **at(37.5))
    yield Case("an upload of no vehicle", [wrong, unbound], {"V2": {}}, True)
    before = log(0, "before", "V2", odometer_m=5)
    own = log(4000, "own", "V2", odometer_m=6)
    newest = {
        "V1": {"position": right, "speed": right, "seen": right},
        "V2": {"odometer": own, "seen": own},
    }
    yield Case("what others set stays", [before, wrong, own, right], newest, True)


CASES = list(_cases())
MOVED = list(_moved())


def expected(case: Case) -> dict[str, dict[str, tuple | None]]:
    """By vehicle and group what `setter` gives of the row that sets it, None where none does."""
    return {
        vehicle: {
            group.name: setter(rows[group.name], group) if group.name in rows else None
            for group in ALL_GROUPS
        }
        for vehicle, rows in case.newest.items()
    }


def setter(one: dict, group) -> tuple:
    """Both clocks, message, sample and revision of a row, and its values of a group."""
    names = ("event_time", "received_time", "message_id", "sample_idx", "revision")
    values = {name: value_of(one, name) for name in group.columns}
    return (*(one[name] for name in names), values)


def cuts(case: Case, chance: random.Random) -> list[list[dict]]:
    """The rows of a case in writes: shuffled unless they come in order, some twice."""
    rows = list(case.rows)
    if not case.in_order:
        chance.shuffle(rows := rows + chance.sample(rows, 1))
    ends = sorted(chance.sample(range(1, len(rows)), min(chance.randint(0, 3), len(rows) - 1)))
    return [rows[a:b] for a, b in zip([0, *ends], [*ends, len(rows)], strict=True)]


class Rounds:
    """Shuffles of cases, each beside all others in the same writes."""

    def __init__(self, cases: list[Case], shuffles: int) -> None:
        chance = random.Random(11)
        self._runs = {
            f"{number}.{shuffle} ": (case, cuts(case, chance))
            for number, case in enumerate(cases)
            for shuffle in range(shuffles)
        }

    def write(self, store: Callable[[object, object], object]) -> None:
        """Hand tables and rows to a store as a sink's `write` takes them, one cut of each run a
        round."""
        for turn in range(max(len(writes) for _, writes in self._runs.values())):
            by_table: dict[str, list[dict]] = {"log": [], "gps": []}
            for prefix, (_, writes) in self._runs.items():
                for one in writes[turn] if turn < len(writes) else ():
                    by_table[one["topic"].removeprefix("message-")].append(_own(prefix, one))
            for name, rows in by_table.items():
                store(TELEMETRY[name], table(name, rows))

    def check(self, states: dict[str, dict[str, tuple | None]]) -> None:
        """Assert that a store has what each case expects, in the form of `expected`."""
        for prefix, (case, writes) in self._runs.items():
            found = {key: one for key, one in states.items() if key.startswith(prefix)}
            wanted = {
                prefix + vehicle: {name: _own_setter(prefix, one) for name, one in groups.items()}
                for vehicle, groups in expected(case).items()
            }
            assert _known(found) == _known(wanted), (case.name, writes)


def _known(states: dict) -> dict:
    """Without vehicles of which nothing is known: a store may have them or not."""
    return {key: state for key, state in states.items() if any(state.values())}


def _own(prefix: str, one: dict) -> dict:
    names = ("vehicle_id", "device_no", "message_id")
    return one | {name: one[name] and prefix + one[name] for name in names}


def _own_setter(prefix: str, one: tuple | None) -> tuple | None:
    if one is None:
        return None
    *times, message_id, sample_idx, revision, values = one
    if "device_no" in values:
        values = {"device_no": prefix + values["device_no"]}
    return (*times, prefix + message_id, sample_idx, revision, values)

"""The rows a stream leaves in a store are those of a backfill."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from itertools import permutations

import pyarrow as pa
import pytest

from connectors.operations_db.bindings_file import load_bindings
from connectors.sinks.tables import TELEMETRY
from connectors.storage.settings import S3Settings
from runners.simulation.misbehaviours import MISBEHAVIOURS
from runners.simulation.simulator import Scenario, simulate
from tests.support.row_model import RowStream, Store
from tests.support.uploads import ALWAYS, HOUR, MINUTE, NOON, SECOND, at, bindings_of, fix, gps, log
from tests.transforms.live.test_revised_minutes import raw_batch, records
from transforms.decode.decoder import Decoder
from transforms.facts.in_memory import facts
from transforms.model.thresholds import Rules

pytestmark = pytest.mark.days

MIDNIGHT = at("2024-01-15T00:00:00")
CORE = (Decoder(), bindings_of(ALWAYS), Rules())
LOGS = TELEMETRY["log"]


def batch_rows(raws, core):
    """Telemetry rows of a batch, by table, day and key."""
    store = Store()
    for name, parts in facts(raws, *core).telemetry.items():
        for row in (row for part in parts for row in part.to_pylist()):
            place = (row["event_time"].date(), (row["message_id"], row["sample_idx"]))
            store.parts[f"telemetry_{name}"][place] = row | {"revision": 0, "gone": False}
    return {table.name: store.rows(table) for table in TELEMETRY.values()}


def differences(store, expected):
    """What the store and a batch say differently."""
    told = []
    for table in TELEMETRY.values():
        here, there = store.rows(table), expected[table.name]
        told += [
            (place, here.get(place), there.get(place))
            for place in here.keys() | there.keys()
            if here.get(place) != there.get(place)
        ]
    return told


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """Records of a fleet around midnight UTC by place, the core, and the batch's rows."""
    out = tmp_path_factory.mktemp("fleet")
    start = datetime(2024, 1, 14, 23, 50, tzinfo=UTC)
    simulate(out, Scenario(3, 0.4, 3, frozenset(MISBEHAVIOURS), start, 2))
    found = records(out / "archive")
    terminals = load_bindings(str(out / "device_binding.csv"), S3Settings())
    core = (Decoder(terminals=terminals.known), terminals.bindings, Rules())
    whole = [raw_batch(t, p, lines, 0, True) for (t, p), lines in sorted(found.items())]
    return found, core, batch_rows(whole, core)


def any_batches(found, seed):
    """All records in batches of any size, those of one partition in order."""
    chance = random.Random(seed)
    left = {place: (lines, 0) for place, lines in found.items()}
    while left:
        place = chance.choice(sorted(left))
        lines, first = left.pop(place)
        size = chance.choice((1, 30, 400))
        yield raw_batch(*place, lines[first : first + size], first, False)
        if first + size < len(lines):
            left[place] = (lines, first + size)


def test_rows_of_a_stream_in_any_batches_end_at_those_of_a_backfill(day):
    found, core, expected = day
    store = Store()
    stream = RowStream(*core, store)
    for raw in any_batches(found, 5):
        stream.take(raw)
    assert differences(store, expected) == []


def test_so_they_do_when_workers_start_anew_and_read_again(day):
    found, core, expected = day
    store = Store()
    stream = RowStream(*core, store)
    seen = []
    for raw in any_batches(found, 6):
        seen.append(raw)
        if len(seen) % 40 == 0:
            stream.starts_anew()
            register = stream.register
            for again in random.Random(len(seen)).sample(seen[-5:], 5):
                stream.take(again)
            stream.register = register
        stream.take(raw)
    assert differences(store, expected) == []


class Written:
    """A store, and the stream of one partition of logs and gps uploads that fills it."""

    def __init__(self):
        self.store = Store()
        self.stream = RowStream(*CORE, self.store)
        self.sent = []

    def take(self, *uploads, partition=0):
        for upload in uploads:
            topic, place = f"message-{upload['type']}", len(self.sent)
            lines = [json.dumps(upload).encode()]
            self.sent.append((topic, partition, lines, place))
            self.stream.take(raw_batch(topic, partition, lines, place, False))
        return self

    def equals_the_batch(self):
        return (
            differences(self.store, batch_rows([raw_batch(*s, True) for s in self.sent], CORE))
            == []
        )


MORNING = MIDNIGHT + 4 * HOUR
ZONE = [log(n, MORNING + n * MINUTE - 9 * HOUR, MORNING + n * MINUTE) for n in range(1, 6)]
"""Of a clock nine hours behind: by itself, each is of yesterday."""


@pytest.mark.parametrize("anew", [False, True])
def test_a_verdict_that_is_taken_back_is_taken_back_in_the_store(anew):
    between = log(90, MORNING + 3 * MINUTE + 20 * SECOND, MORNING + 3 * MINUTE + 30 * SECOND)
    written = Written().take(*ZONE)
    corrected = written.store.rows(LOGS).values()
    assert all("TZ_CORRECTED" in row["quality_flags"] for row in corrected)
    if anew:
        written.stream.starts_anew()
    written.take(between)
    suspected = written.store.rows(LOGS).values()
    assert not any("TZ_CORRECTED" in row["quality_flags"] for row in suspected)
    assert written.equals_the_batch()


def test_a_flag_that_is_taken_back_when_nothing_is_remembered():
    first = [log(1, NOON, odo=5000), log(2, NOON + 2 * MINUTE, odo=1000)]
    written = Written().take(*first)
    assert any(row["quality_flags"] == ["ODO_RESET"] for row in written.store.rows(LOGS).values())
    written.stream.starts_anew()
    written.take(log(3, NOON + MINUTE, NOON + 3 * MINUTE, odo=900))
    assert written.equals_the_batch()


def test_a_corrected_time_that_moves_over_midnight_leaves_no_row_behind():
    ahead = [601_900, 601_900, 603_000, 602_500, 602_500]
    received = [MIDNIGHT - SECOND - (2 - n) * MINUTE for n in range(5)]
    uploads = [log(n, r + a, r) for n, (r, a) in enumerate(zip(received, ahead, strict=True))]
    written = Written().take(*uploads[:3])
    days = {day for day, _ in written.store.rows(LOGS)}
    assert len(days) == 2
    written.stream.starts_anew()
    written.take(*uploads[3:4])
    written.stream.starts_anew()
    written.take(*uploads[4:])
    assert written.equals_the_batch()


def test_samples_that_only_a_losing_copy_had_are_gone():
    poor = gps([fix(0), fix(1), fix(2)], 7)
    full = {"alt": 30.0, "hd": 10.0, "nos": 8, "dop": 1.0, "acc": 3.0}
    rich = gps([fix(0, **full), fix(1, **full)], 7)
    for order in ((poor, rich), (rich, poor)):
        written = Written().take(*order)
        assert written.equals_the_batch()
        assert len(written.store.rows(TELEMETRY["gps"])) == 2


def test_a_copy_hours_later_of_an_upload_without_time_leaves_no_row_on_its_own_date():
    first, again = log(1, None, MIDNIGHT - MINUTE), log(1, None, MIDNIGHT + 5 * HOUR)
    for order in permutations((first, again)):
        written = Written().take(*order)
        assert written.equals_the_batch()
        assert len(written.store.rows(LOGS)) == 1


def test_of_equal_copies_the_first_received_stands_whichever_is_written_first():
    early, late = gps([fix(0)], 7, NOON + SECOND), gps([fix(0)], 7, NOON + MINUTE)
    for order in permutations(((early, 0), (late, 1))):
        written = Written()
        written.stream.judge = lambda terminals: None
        for upload, partition in order:
            written.take(upload, partition=partition)
        (row,) = written.store.rows(TELEMETRY["gps"]).values()
        assert row["partition"] == 0


def test_judging_again_writes_only_what_changed():
    written = Written().take(*ZONE, log(8, MORNING + 9 * MINUTE))
    before = written.store.written
    written.stream.judge(pa.array(["0001"]))
    assert written.store.written == before
    written.take(log(6, MORNING + 6 * MINUTE - 9 * HOUR, MORNING + 6 * MINUTE))
    written.take(log(9, MORNING + 10 * MINUTE))
    assert written.store.written <= before + 1 + 3 + 1
    assert written.equals_the_batch()

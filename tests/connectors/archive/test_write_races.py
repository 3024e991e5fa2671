"""However records are cut, crash, come again and meet other writers: an archive without gap or
overlap, equal to the records."""

import gzip
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.archive import names
from connectors.archive.progress import Progress
from connectors.errors import DependencyFailed
from connectors.storage.folder import Folder, folder
from connectors.storage.settings import S3Settings
from tests.support.archives import (
    Log,
    archived,
    batch,
    known,
    object_names,
    read_progress,
    record,
    writer,
)

pytestmark = pytest.mark.days

UNHURRIED = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
TOPICS = ("message-gps", "message-log")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(names, "BLOCK", 10)


class Crash(Exception):
    """The process is gone."""


@dataclass(frozen=True)
class Watched(Folder):
    """A folder that calls `before` and `after` with the number of each thing it is asked for; one
    given the `count` of another counts on."""

    before: Callable[[int], None] = lambda number: None
    after: Callable[[int], None] = lambda number: None
    count: list[int] = field(default_factory=lambda: [0])

    def read_version(self, name):
        return self._watch(super().read_version, name)

    def version(self, name):
        return self._watch(super().version, name)

    def replace(self, name, data, replaced):
        return self._watch(super().replace, name, data, replaced)

    def _watch(self, ask, *words):
        self.count[0] += 1
        number = self.count[0]
        self.before(number)
        answer = ask(*words)
        self.after(number)
        return answer


def watched(place, **hooks):
    return Watched(place.uri, place.path, place.settings, **hooks)


@st.composite
def partitions(draw):
    """Records of a few partitions with the holes that transactions leave, over some hours."""
    found = {}
    for place in draw(st.lists(st.sampled_from([(t, p) for t in TOPICS for p in (0, 1)]),
                               min_size=1, max_size=3, unique=True)):  # fmt: skip
        offsets = draw(st.lists(st.integers(0, 45), min_size=1, unique=True).map(sorted))
        hours = draw(st.lists(st.integers(0, 2), min_size=len(offsets), max_size=len(offsets)))
        found[place] = [
            record(offset, *place, hour=hour) for offset, hour in zip(offsets, hours, strict=True)
        ]
    return found


@dataclass
class Run:
    """A job over partitions: what was handed over, what a checkpoint covers."""

    records: dict
    position: dict = field(default_factory=dict)
    covered: dict = field(default_factory=dict)

    def next(self, sizes):
        """The next batch, so many records of each partition."""
        taken = []
        for (place, found), size in zip(sorted(self.records.items()), sizes, strict=False):
            begin = self.position.get(place, 0)
            taken += found[begin : begin + size]
            self.position[place] = min(begin + size, len(found))
        return taken

    def checkpoint(self):
        self.covered = dict(self.position)

    def restart(self):
        self.position = dict(self.covered)

    def skip(self):
        """Goes on behind what was lost, with the last record of each partition at least."""
        for place, found in self.records.items():
            self.position[place] = min(self.position.get(place, 0), len(found) - 1)


steps = st.tuples(
    st.lists(st.integers(0, 15), min_size=3, max_size=3),
    st.sampled_from(["write", "write and checkpoint", "crash before", "crash after"]),
    st.booleans(),
    st.integers(1, 12),
)


@UNHURRIED
@given(partitions(), st.lists(steps, max_size=8), st.booleans(), st.sampled_from([0, 1 << 20]))
def test_any_cuts_crashes_and_replays_archive_every_record_once(records, steps, old, cache):
    """After a crash the job goes on from its checkpoint or, told so, with what comes next."""
    log = Log([one for found in records.values() for one in found])
    with tempfile.TemporaryDirectory() as path:
        place = folder(path, S3Settings())
        older = folder(f"{path}/old", S3Settings()) if old else None
        run, current = Run(records), writer(place, log, old=older, cache=cache)
        for sizes, what, skips, when in steps:
            taken = run.next(sizes)
            if not taken:
                continue
            if what.startswith("crash"):
                dying = watched(place, **{what.removeprefix("crash "): _death(when)})
                dying_old = older and watched(older, before=dying.before, count=dying.count)
                with suppress(Crash):
                    writer(dying, log, old=dying_old).write(batch(taken))
                run.skip() if skips else run.restart()
                current = writer(place, log, old=older, cache=cache)
            else:
                current.write(batch(taken))
                if what == "write and checkpoint":
                    run.checkpoint()
        assert_nothing_is_missing(place, log, records)
        while rest := run.next([7, 7, 7]):
            current.write(batch(rest))
        assert_nothing_is_missing(place, log, records)
        for (topic, partition), found in records.items():
            if progress := read_progress(place, topic, partition):
                assert progress.end == found[-1]["offset"] + 1
        if older:
            assert_the_old_layout_is_as_the_exact_one(place, older)
        writer(place, log).write(batch(log.records))
        assert archived(place) == known(log.records)


def _death(when):
    def die(number):
        if number == when:
            raise Crash

    return die


def assert_nothing_is_missing(place, log, records):
    """All records of a partition from the first archived block to the end that is noted."""
    found = archived(place)
    expected = []
    for topic, partition in records:
        if progress := read_progress(place, topic, partition):
            offsets = range(progress.begin // 10 * 10, progress.end)
            expected += [
                one for one in log.records
                if (one["topic"], one["partition"]) == (topic, partition)
                and one["offset"] in offsets
            ]  # fmt: skip
    noted = [row for row in known(expected) if row not in found]
    assert noted == []
    assert [row for row in found if row not in known(log.records)] == []


def assert_the_old_layout_is_as_the_exact_one(place, old):
    expected = {}
    for name in object_names(place):
        rows = archived_object(place, name)
        expected[name.replace(".parquet", ".json.gz")] = b"".join(
            row["value"] + b"\n" for row in rows
        )
    found = {
        name: gzip.decompress(old.child("topics").read(name).to_pybytes())
        for name in object_names(old)
    }
    assert found == expected


def archived_object(place, name):
    return pq.read_table(pa.BufferReader(place.child("topics").read(name))).to_pylist()


@UNHURRIED
@given(
    st.integers(0, 25),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(0, 5),
    st.integers(1, 16),
    st.booleans(),
    st.booleans(),
)
@example(done=5, more=0, again=3, overlap=0, when=3, fresh=True, old=True)
@example(done=5, more=2, again=0, overlap=0, when=3, fresh=False, old=True)
def test_a_writer_that_was_given_up_but_lives_shortens_nothing(
    done, more, again, overlap, when, fresh, old
):
    """The old writer comes late with `more` records and some it had written; around one of the
    things it asks the store for, the new one writes all there is."""
    log = Log([record(n, hour=n // 13) for n in range(done + more + 10)])
    with tempfile.TemporaryDirectory() as path:
        place = folder(path, S3Settings())
        older = folder(f"{path}/old", S3Settings()) if old else None
        new, began, taken_over = writer(place, log, old=older), [1 << 30], []

        def take_over(number):
            if number == began[0] + when:
                taken_over.append(number)
                new.write(batch(log.records[max(0, done - overlap) :]))

        hooked = watched(place, before=take_over)
        hooked_old = older and watched(older, before=take_over, count=hooked.count)
        zombie = writer(hooked, log, old=hooked_old)
        if done:
            zombie.write(batch(log.records[:done]))
        if fresh:
            zombie = writer(hooked, log, old=hooked_old)
        began[0] = hooked.count[0]
        late = log.records[max(0, done - again) : done + more]
        if late:
            zombie.write(batch(late))
        expected = log.records if taken_over else log.records[: done + more]
        assert archived(place) == known(expected)
        assert read_progress(place, "message-gps", 0) == (
            Progress(0, len(expected)) if expected else None
        )
        if older:
            assert_the_old_layout_is_as_the_exact_one(place, older)


def interrupted(place, log, number, records):
    """A writer, before whose commit of that number another writer archives some records."""
    other = writer(place, log)

    def meanwhile(reached):
        if reached == number:
            other.write(batch(records))

    return writer(watched(place, before=meanwhile), log)


def test_two_writers_that_begin_an_archive_apart_leave_no_gap():
    log = Log([record(n) for n in range(60)])
    with tempfile.TemporaryDirectory() as path:
        place = folder(path, S3Settings())
        late = interrupted(place, log, 2, log.records[:5])
        with pytest.raises(Exception, match="offsets 5 to 29 were not archived"):
            late.write(batch(log.records[30:35]))
        late.write(batch(log.records[30:35]))
        assert archived(place) == known(log.records[:35])
        assert read_progress(place, "message-gps", 0) == Progress(0, 35)


def test_a_writer_that_hears_of_records_it_does_not_hold_reads_them():
    log = Log([record(n) for n in range(10)])
    with tempfile.TemporaryDirectory() as path:
        place = folder(path, S3Settings())
        one = interrupted(place, log, 5, log.records[:8])
        one.write(batch(log.records[:4]))
        one.write(batch(log.records[4:]))
        assert archived(place) == known(log.records)
        assert read_progress(place, "message-gps", 0) == Progress(0, 10)


turns = st.tuples(
    st.integers(0, 1),
    st.booleans(),
    st.integers(0, 39),
    st.integers(1, 15),
    st.integers(0, 6),
    st.integers(1, 10),
)


@UNHURRIED
@given(
    st.lists(st.integers(0, 59), min_size=40, max_size=40, unique=True).map(sorted),
    st.lists(st.integers(0, 2), min_size=40, max_size=40),
    st.lists(turns, max_size=8),
    st.sampled_from([0, 1 << 20]),
)
def test_what_one_topic_gives_is_never_taken_for_another_topic(offsets, hours, turns, cache):
    """Two writers take any batches, old or ahead, also within one another's, while Kafka deletes:
    none is refused, and nothing is missing but what was lost."""
    log = Log([record(n, hour=hour) for n, hour in zip(offsets, hours, strict=True)])
    with tempfile.TemporaryDirectory() as path:
        place, inner = folder(path, S3Settings()), []
        hooked = watched(place, before=lambda number: inner.pop()() if number == when[0] else None)
        when = [0]
        writers = [writer(hooked, log, cache=cache), writer(place, log, cache=cache)]
        for who, fresh, first, size, deleted, wait in turns:
            taken = batch(log.records[first : first + size])
            if fresh:
                writers[who] = writer([hooked, place][who], log, cache=cache)
            if who == 1 and not inner:
                inner.append(partial(_takes, log, writers[1], taken, deleted))
                when[0] = hooked.count[0] + wait
            else:
                _takes(log, writers[who], taken, deleted)
        for left in inner:
            left()
        progress = read_progress(place, "message-gps", 0)
        found = archived(place)
        assert [row for row in found if row not in known(log.records)] == []
        if progress:
            due = progress.holds(np.array(offsets))
            expected = known(one for one, is_due in zip(log.records, due, strict=True) if is_due)
            assert [row for row in expected if row not in found] == []


def _takes(log, one, taken, deleted):
    """Kafka deletes some more, and a writer takes a batch; again, where two began apart."""
    begin = log.begin("message-gps", 0) + deleted
    log.begins["message-gps", 0] = min(begin, log.records[-1]["offset"] + 1)
    try:
        one.write(taken)
    except DependencyFailed as error:
        assert "try again" in str(error)
        one.write(taken)


@pytest.mark.parametrize("when", range(1, 8))
def test_a_first_batch_that_was_cut_short_is_completed_by_whatever_comes_next(when):
    log = Log([record(n, hour=n // 5) for n in range(40)])
    with tempfile.TemporaryDirectory() as path:
        place, old = folder(path, S3Settings()), folder(f"{path}/old", S3Settings())
        dying = watched(place, after=_death(when))
        with suppress(Crash):
            dying_old = watched(old, after=dying.after, count=dying.count)
            writer(dying, log, old=dying_old).write(batch(log.records[5:25]))
        writer(place, log, old=old).write(batch(log.records[35:]))
        assert_nothing_is_missing(place, log, {("message-gps", 0)})
        assert_the_old_layout_is_as_the_exact_one(place, old)

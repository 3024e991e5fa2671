"""What must hold for any input: nothing is lost, and order, splits and ways do not matter."""

import hashlib
import json
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import MESSAGE_TYPES, REPORT_TYPES, load, payload_fields
from tests.support.uploads import (
    HOME,
    HOUR,
    METRES_PER_DEGREE,
    MINUTE,
    NOON,
    SECOND,
    batch,
    bindings_of,
    block,
    boot,
    csa,
    datum,
    encoded,
    fix,
    frame,
    gps,
    log,
    raw_batch,
    rows_of,
    run,
    stamp,
)
from transforms.bindings.bindings import AMBIGUOUS, UNBOUND
from transforms.decode import sts_json
from transforms.decode.decoder import Decoder, decode
from transforms.decode.repair import assemble, repair_lines
from transforms.facts.telemetry import prepare, settle
from transforms.facts.vehicle_minutes import PARTIALS, merge
from transforms.model import raw_messages as raw
from transforms.model.arrow_numpy import single
from transforms.model.fleet_hours import local_hours
from transforms.model.known_terminals import KnownTerminals
from transforms.model.thresholds import Bounds, Rules
from transforms.model.uploads import message_ids
from transforms.terminal_rules.upload_summary import summarize
from transforms.terminal_rules.verdicts import SUMMARIES, judge

pytestmark = pytest.mark.days

settings.register_profile(
    "bounded", deadline=None, max_examples=60, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
settings.load_profile("bounded")

LOG = load("message_log").avro


# Any bytes among valid messages.


def avro_log(seq):
    record = {
        "message_id": f"{seq:032x}", "device_no": "0001", "device_gen": "STS", "extras": {},
        "received_time": NOON, "device_time": NOON, "tire_pressure_kpa": [], "dtc_codes": [],
    }  # fmt: skip
    return datum(LOG, record)


VALID = [
    encoded(log(seq=1, spd=43)), encoded(gps([fix(0), fix(1, 20)], seq=2)), encoded(boot(seq=3)),
    csa(), frame(1, LOG, {**{f["name"]: None for f in LOG["fields"]}, "message_id": "a" * 32,
        "device_no": "0001", "device_gen": "STS", "received_time": NOON, "extras": {},
        "tire_pressure_kpa": [], "dtc_codes": []}),
]  # fmt: skip


def spoil(message, place, junk, cut):
    """The message with `cut` bytes at `place` exchanged for `junk`."""
    place %= len(message)
    return message[:place] + junk + message[place + cut :]


spoiled = st.builds(
    spoil,
    st.sampled_from(VALID), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3),
)  # fmt: skip
anything = st.one_of(
    st.sampled_from(VALID), spoiled, spoiled, st.binary(max_size=60), st.none(),
    st.builds(lambda body: b"\0\0\0\0\1" + body, st.binary(max_size=40)),
    st.builds(lambda body: b"$CSA," + body, st.binary(max_size=40)),
    st.text(alphabet='{}[]":,0123456789ntruefalse\\ ', max_size=40).map(str.encode),
)  # fmt: skip


class OneWriter:
    """Only schema 1 is known."""

    def lookup(self, schema_id):
        return LOG if schema_id == 1 else None


@settings(max_examples=150)
@given(st.lists(anything, max_size=12), st.sampled_from(["message-log", "message-gps", "messages"]))
def test_m17_good_and_dead_together_hold_every_message_exactly_once(messages, topic):
    raw = raw_batch(messages, topic=topic)
    outcome = decode(raw, Decoder(writers=OneWriter()))
    lines = [line for part in outcome.good for line in part.head.column("line").to_pylist()]
    dead = rows_of(outcome.dead)
    assert sorted(lines + [letter["source_line"] for letter in dead]) == list(range(len(messages)))
    for letter in dead:
        message = messages[letter["source_line"]] or b""
        assert letter["raw_value"] in (message, message.removesuffix(b"\n").removesuffix(b"\r"))
    for part in outcome.good:
        assert sorted(set(part.upload.tolist())) == list(range(len(part)))
        part.head.validate(full=True)
        part.rows.validate(full=True)
        prepare(part, Rules())


records = st.integers(0, 9).map(avro_log)


@given(
    st.lists(records, max_size=4),
    st.lists(st.one_of(records, st.binary(min_size=1, max_size=8)), max_size=4),
)
def test_m17_a_container_block_loses_no_byte_of_what_it_refuses(good, mixed):
    whole = b"".join(good + mixed)
    facts = run(block(LOG, good + mixed))
    read = facts.good + facts.duplicates
    assert read >= len(good)
    assert (read == len(good + mixed)) or len(facts.dead) == 1
    refused = b"".join(letter["raw_value"] for letter in facts.dead)
    assert whole[read * len(avro_log(0)) :] == refused
    assert [letter["source_line"] for letter in facts.dead] in ([], [read])


# Native decoding and repair.

plain = {
    "string": st.text(st.characters(codec="utf-8", exclude_characters="{"), max_size=5),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.one_of(
        st.integers(-999, 999), st.decimals(-9999, 9999, places=3).map(float),
        st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    "double": st.one_of(st.integers(-999, 999), st.floats(-1e300, 1e300)),
}  # fmt: skip


def value_for(field):
    if field.codes is not None:
        return st.integers(0, len(field.codes) - 1)
    if field.name == "device_time":
        return st.integers(10**10, 4 * 10**12)
    if field.kind == "array":
        return st.lists(plain[field.avro_type["items"]], max_size=3)
    return plain[field.kind]


def payload_for(kind, left_out=()):
    fields = {f.sts: value_for(f) for f in payload_fields(kind) if f.sts not in left_out}
    optional = {key: st.none() | value for key, value in fields.items()}
    return st.fixed_dictionaries({}, optional=optional)


@st.composite
def sts_message(draw, kind):
    message = {
        "device_no": draw(st.sampled_from(["0001", " ab-1 ", "서울1", "é", "x" * 64])),
        "type": kind,
        "timestamp": stamp(draw(st.integers(10**12, 4 * 10**12))),
    }
    for key, kind_of in (("fw", "string"), ("boot", "int"), ("seq", "long"), ("up", "long")):
        if draw(st.booleans()):
            message[key] = draw(st.none() | plain[kind_of])
    if kind in REPORT_TYPES:
        message["ts"] = draw(st.integers(10**10, 4 * 10**12))
        message["d"] = draw(payload_for(kind, ("ts",)))
    else:
        message["data"] = draw(st.lists(payload_for(kind), min_size=1, max_size=4))
    keys = draw(st.permutations(list(message)))
    return {key: message[key] for key in keys}


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_native_decoding_and_repair_give_the_same_rows_for_any_valid_message(kind):
    @settings(max_examples=40)
    @given(st.lists(sts_message(kind), min_size=1, max_size=4), st.booleans())
    def same(messages, spaced):
        separators = (", ", ": ") if spaced else (",", ":")
        lines = [
            json.dumps(m, ensure_ascii=False, separators=separators).encode() for m in messages
        ]
        raw = raw_batch(lines, topic=f"message-{kind}")
        parsed = sts_json.decode_json(raw, kind, Bounds())
        natively = np.flatnonzero(~np.asarray(parsed.repair))
        repaired, refusals = repair_lines(raw, natively.tolist(), KnownTerminals(), Bounds())
        assert refusals == []
        assert len(natively) == len(lines), "a valid message was not decoded natively"
        slow, _ = assemble(repaired, raw, kind, "STS")
        assert rows_of(parsed.uploads.head) == rows_of(slow.head)
        assert rows_of(parsed.uploads.rows) == rows_of(slow.rows)

    same()


# Order within an upload.

path = st.lists(
    st.tuples(st.integers(0, 70), st.integers(0, 200), st.sampled_from([None, 0, 0.5, 30, 255])),
    min_size=1, max_size=8, unique_by=lambda one: one[0],
)  # fmt: skip


@given(path, st.randoms(use_true_random=False), st.booleans())
def test_m03_unroll_does_not_depend_on_the_order_of_samples(path, chance, repeat):
    samples = [fix(second, 40 * metres, sp=speed) for second, metres, speed in path]
    shuffled = samples + (samples[:2] if repeat else [])
    chance.shuffle(shuffled)
    kept = {"received": NOON + MINUTE, "boot": 1}
    one, other = run([gps(samples, **kept)]), run([gps(shuffled, **kept)])
    assert one.telemetry == other.telemetry
    assert one.minutes == other.minutes
    assert other.dropped == (min(len(samples), 2) if repeat else 0)


# Order and split of upload summaries.


def fleet(seed):
    """Uploads with duplicates, bad clocks, chatter, resets and boots of two terminals."""
    chance = random.Random(seed)
    clocks = (0, 0, 0, 0, 400_000, 400_500, -9 * HOUR, -9 * HOUR, -9 * HOUR, 30 * HOUR)
    messages = []
    for n in range(40):
        received = NOON + n * chance.choice((0, 10, 61)) * SECOND
        more = {
            "device_no": chance.choice(("0001", "0002")), "boot": chance.choice((1, 2, None)),
            "up": chance.choice((None, n)),
        }  # fmt: skip
        ts = chance.choice((received + chance.choice(clocks), 5_000))
        seq = chance.choice((n, n, n - 1))
        kind = chance.choice((log, log, log, boot))
        report = (
            {"odo": chance.choice((100, 200, None)), "ign": chance.random() < 0.5}
            if kind is log
            else {}
        )
        messages.append(kind(seq=seq, ts=max(ts, 0), received=received, **more, **report))
    return messages


def register_of(messages, names):
    """Upload summaries, the messages dealt out to objects."""
    tables = [SUMMARIES.empty_table()]
    for name in sorted(set(names)):
        chosen = [m for m, own in zip(messages, names, strict=True) if own == name]
        for part in decode(raw_batch(chosen, name, topic="messages"), Decoder()).good:
            rows = pa.Table.from_batches([summarize(prepare(part, Rules()).uploads)])
            tables.append(
                rows.add_column(
                    0, SUMMARIES.field("object"), pa.array([name] * len(rows), pa.string())
                )
            )
    return pa.concat_tables(tables)


def _taken(table, rows):
    return table.take(pa.array(rows, pa.int64()))


VEHICLES = bindings_of([("0001", "A", 0, NOON + 20 * MINUTE), ("0001", "B", NOON + 20 * MINUTE)])


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.lists(st.sampled_from("abc"), min_size=40, max_size=40),
    st.randoms(use_true_random=False),
)
def test_judge_does_not_depend_on_the_order_of_register_rows(seed, names, chance):
    table = register_of(fleet(seed), names)
    order = list(range(table.num_rows))
    chance.shuffle(order)
    cut = chance.randrange(table.num_rows)
    shuffled = pa.concat_tables([_taken(table, order[cut:]), _taken(table, order[:cut])])
    once = judge(table, VEHICLES.vehicle_at, Rules())
    assert rows_of(once) == rows_of(judge(shuffled, VEHICLES.vehicle_at, Rules()))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_judge_does_not_depend_on_how_the_uploads_lie_in_objects(seed, stride):
    """Objects are numbered so that the order of places, which settles ties, stays the same."""
    messages = fleet(seed)
    split = [f"{n // (7 * stride):02d}" for n in range(len(messages))]
    facts = []
    for names in (["00"] * len(messages), split):
        objects = {}
        for message, name in zip(messages, names, strict=True):
            objects.setdefault(name, []).append(message)
        found = run(objects)
        drop = ("object", "line", "topic")
        rows = [{k: v for k, v in row.items() if k not in drop} for row in found.telemetry]
        facts.append((sorted(rows, key=repr), found.minutes, found.good, found.duplicates))
    assert facts[0] == facts[1]


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_terminals_can_be_judged_apart(seed):
    table = register_of(fleet(seed), ["a"] * 40)
    together = rows_of(judge(table, VEHICLES.vehicle_at, Rules()))
    apart = []
    for device_no in ("0001", "0002"):
        part = table.filter(pa.array([d == device_no for d in table["device_no"].to_pylist()]))
        apart += rows_of(judge(part, VEHICLES.vehicle_at, Rules()))
    assert sorted(apart, key=lambda v: v["line"]) == together


# Minutes.


def some_partials(seed):
    """Partials of many uploads of three vehicles."""
    chance = random.Random(seed)
    bindings = bindings_of([(f"000{n}", f"CAR-{n % 3}", 0) for n in range(4)])
    parts = []
    for n in range(12):
        start, kind = chance.randrange(150), chance.choice(MESSAGE_TYPES)
        device_no = f"000{chance.randrange(4)}"
        if kind in REPORT_TYPES:
            make = log if kind == "log" else boot
            readings = {"bat": chance.choice((11.1, 12.7, None))}
            if kind == "log":
                readings |= {
                    "odo": chance.randrange(10**6),
                    "spd": chance.random() * 90,
                    "fuel": 7.3,
                    "ign": True,
                }
            message = make(seq=n, ts=NOON + start * SECOND, device_no=device_no, **readings)
        else:
            samples = [
                fix(start + s, 20 * s, sp=chance.random() * 130, ev="HARSH_BRAKE", warn="FCW")
                for s in range(chance.randrange(1, 30))
            ]
            drop = {"gps": ("ev", "warn"), "kinematic": ("warn",), "adas": ("ev",)}[kind]
            samples = [{k: v for k, v in s.items() if k not in drop} for s in samples]
            message = batch(kind, samples, seq=n, device_no=device_no)
        for part in decode(raw_batch([message]), Decoder()).good:
            prepared = prepare(part, Rules())
            parts.append(settle(prepared, _no_verdicts(), bindings, Rules()).partials)
    return pa.Table.from_batches(parts)


def _no_verdicts():
    from transforms.terminal_rules.verdicts import SCHEMA

    return pa.RecordBatch.from_pylist([], schema=SCHEMA)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_merge_does_not_depend_on_order_and_split_and_drops_repeated_partials(seed, chance):
    table = some_partials(seed)
    once = merge(table)
    order = list(range(table.num_rows)) + chance.choices(range(table.num_rows), k=5)
    chance.shuffle(order)
    cut = chance.randrange(len(order))
    again = pa.concat_tables([_taken(table, order[cut:]), _taken(table, order[:cut])])
    assert merge(again).equals(once)
    assert again.schema.equals(PARTIALS)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_merge_keeps_every_sample_and_metre(seed):
    table = some_partials(seed)
    merged = merge(table)
    for name in ("n_samples", "n_uploads", "driving_s", "harsh_brake_n", "adas_n", "ignition_on_s"):
        assert sum(merged[name].to_pylist()) == sum(table[name].to_pylist())
    metres = sum(table["distance_gps_m"].to_pylist())
    assert sum(merged["distance_gps_m"].to_pylist()) == pytest.approx(metres)
    keys = list(zip(merged["vehicle_id"].to_pylist(), merged["minute"].to_pylist(), strict=True))
    assert len(set(keys)) == len(keys)


# Bindings.

binding = st.tuples(
    st.sampled_from(["T1", "T2", "T10"]), st.sampled_from(["A", "B", "C"]), st.integers(0, 12),
    st.none() | st.integers(0, 12), st.integers(0, 3),
)  # fmt: skip


def naive_vehicle(rows, device_no, instant):
    """Search all rows; of those with one terminal and start the highest version stands."""
    standing = {}
    for row in rows:
        key = row[0], row[2]
        if key not in standing or row[4] > standing[key][4]:
            standing[key] = row
    vehicles = {
        vehicle for device, vehicle, start, end, _ in standing.values()
        if device == device_no and start <= instant and (end is None or instant < end)
    }  # fmt: skip
    if len(vehicles) > 1:
        return AMBIGUOUS
    return vehicles.pop() if vehicles else UNBOUND


@settings(max_examples=200)
@given(st.lists(binding, min_size=1, max_size=8, unique_by=lambda row: (row[0], row[2], row[4])))
def test_m22_vehicle_at_equals_a_search_through_all_rows(rows):
    snapshot = bindings_of(rows)
    names = snapshot.vehicles.to_pylist()
    asked = [(device, instant) for device in ("T1", "T2", "T10", "T3") for instant in range(-1, 14)]
    devices = pa.array([device for device, _ in asked])
    codes = snapshot.vehicle_at(devices, np.array([instant for _, instant in asked]))
    found = [names[code] if code >= 0 else code for code in codes.tolist()]
    assert found == [naive_vehicle(rows, device, instant) for device, instant in asked]


@given(
    st.lists(
        st.text(min_size=1, max_size=20).filter(lambda t: not t.endswith("\0")),
        min_size=1,
        max_size=20,
        unique=True,
    )
)
def test_m22_terminals_are_found_by_their_exact_number(numbers):
    known, unknown = numbers[::2], numbers[1::2]
    snapshot = bindings_of([(number, "V", 0) for number in known])
    assert snapshot.known(known) == [True] * len(known)
    assert snapshot.known(unknown) == [False] * len(unknown)


# Hours and identities.


@given(
    st.lists(st.integers(0, 7_258_118_399_999), min_size=1, max_size=20),
    st.sampled_from(
        ["Asia/Seoul", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"]
    ),
)
def test_m09_local_hours_equal_calendar_arithmetic(instants, zone):
    expected = []
    for ms in instants:
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).astimezone(
            ZoneInfo(zone)
        )
        expected.append(int(local.strftime("%Y%m%d%H")))
    assert local_hours(np.array(instants), zone).tolist() == expected


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
            st.none() | st.integers(-(2**31), 2**31 - 1),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.binary(max_size=20).filter(lambda payload: payload[-1:] not in (b"\r", b"\n")),
        ),
        min_size=1, max_size=10,
    ),
    st.sampled_from(MESSAGE_TYPES),
)  # fmt: skip
def test_message_ids_equal_hashlib(uploads, kind):
    columns = list(zip(*uploads, strict=True))
    ids = message_ids(
        pa.array(columns[0]), kind, pa.array(columns[1], pa.int32()),
        pa.array(columns[2], pa.int64()),
        raw.from_lines(
            pa.array([p + b"\n" for p in columns[3]], pa.binary()), raw.Source("t", 0, "o", None)
        ),
    )  # fmt: skip
    expected = []
    for device_no, boot_count, seq, payload in uploads:
        key = f"{device_no}|{kind}|".encode()
        whole = boot_count is not None and seq is not None
        key += f"{boot_count}|{seq}".encode() if whole else payload
        expected.append(hashlib.sha256(key).hexdigest()[:32])
    assert single(ids).to_pylist() == expected


@given(st.lists(st.integers(0, 300), min_size=2, max_size=30))
def test_m11_an_accepted_path_never_exceeds_the_limit(steps):
    """Whatever jumps, the distance of an upload is at most 70 m for each second it lasts."""
    place, samples = 0, []
    for second, step in enumerate(steps):
        place += step if second % 2 else -step
        samples.append(fix(second, place))
    facts = run([gps(samples)])
    assert sum(m["distance_gps_m"] for m in facts.minutes) <= 70 * len(steps) + 1e-6
    believed = [row for row in facts.telemetry if "GPS_JUMP" not in row["quality_flags"]]
    assert believed[0]["lat_deg"] == pytest.approx(HOME[0] + samples[0]["lat"] - HOME[0])
    assert METRES_PER_DEGREE > 111_000

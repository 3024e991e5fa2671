"""What the live jobs write: forwarded or encoded again, an upload has the same bytes."""

import copy
import io
import json

import fastavro
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import MESSAGE_TYPES, REPORT_TYPES, load
from schemas.arrow import record_schema
from tests.support.uploads import (
    NOON,
    Writers,
    boot,
    by_type,
    csa,
    datum,
    encoded,
    fix,
    frame,
    gps,
    log,
    parsed,
    raw_batch,
    rows_of,
)
from tests.transforms.encode.test_avro import any_record, table_of
from transforms.decode.coerce import EARLIEST_RECEIVED_MS, LATEST_RECEIVED_MS
from transforms.decode.decoder import Decoder, decode
from transforms.encode import topic_messages
from transforms.model.dead_letters import Refusal, dead_letters
from transforms.model.known_terminals import KnownTerminals
from transforms.model.thresholds import Bounds
from transforms.model.uploads import HEAD, Uploads, rows_schema

few = settings(
    deadline=None, max_examples=12, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip

OURS, VEHICLE = 7, 1000
PLACE_AND_FLAGS = {"topic", "partition", "offset", "object", "line", "flags"}
IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
RECEIVED = st.integers(EARLIEST_RECEIVED_MS, LATEST_RECEIVED_MS)


def message(kind):
    return load(f"message_{kind}").avro


def vehicle(kind):
    return load(f"vehicle_{kind}").avro


def tail_schema(kind):
    own = {field["name"] for field in message(kind)["fields"]}
    fields = [field for field in vehicle(kind)["fields"] if field["name"] not in own]
    return {**vehicle(kind), "name": "Tail", "fields": copy.deepcopy(fields)}


@st.composite
def uploads_of(draw, kind):
    """A record as a terminal would write it: named, with at least one sample."""
    record = draw(any_record(message(kind)))
    record |= {"message_id": draw(IDS), "received_time": draw(RECEIVED)}
    record["device_no"] = draw(st.sampled_from(["0001", "AB-1", "서울1", "X" * 64]))
    if kind not in REPORT_TYPES and not record["samples"]:
        sample = message(kind)["fields"][-1]["type"]["items"]
        record["samples"] = [draw(any_record(sample))]
    return record


def enriched(kind):
    pairs = st.tuples(uploads_of(kind), any_record(tail_schema(kind)))
    return st.lists(pairs, min_size=1, max_size=3)


def tails_of(kind, tails):
    return pa.array([datum(tail_schema(kind), tail) for tail in tails], pa.binary())


def binary(values):
    return pa.array(values, pa.binary())


def decoded(kind, messages):
    """The messages as uploads of one type, none refused."""
    writers = Writers({OURS: message(kind), VEHICLE: vehicle(kind)})
    outcome = decode(raw_batch(messages, offset=0), Decoder(writers=writers))
    assert rows_of(outcome.dead) == []
    [part] = outcome.good
    return part


def read(kind, value):
    """A message of a vehicle topic, times as epoch ms."""
    schema = json.loads(json.dumps(vehicle(kind)).replace('"logicalType": "timestamp-millis"',
                                                          '"unit": "ms"'))  # fmt: skip
    stream = io.BytesIO(value[5:])
    record = fastavro.schemaless_reader(stream, parsed(schema))
    assert stream.read() == b""
    assert value[:5] == b"\0" + VEHICLE.to_bytes(4, "big")
    return record


def comparable(rows):
    """Rows without place and flags, NaN equal to itself."""
    kept = [{k: v for k, v in row.items() if k not in PLACE_AND_FLAGS} for row in rows]
    return json.loads(json.dumps(kept))


def same(one, other):
    return repr(comparable(one)) == repr(comparable(other))


# Framing.


def test_a_frame_is_magic_schema_id_and_datum():
    framed = topic_messages.frame(0x01020304, binary([b"abc", b"", b"\0"]))
    assert framed.to_pylist() == [b"\0\1\2\3\4abc", b"\0\1\2\3\4", b"\0\1\2\3\4\0"]
    assert topic_messages.frame(1, binary([])).to_pylist() == []


# Appending.


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_a_datum_with_the_vehicle_appended_is_the_full_encoding_byte_for_byte(kind):
    @few
    @given(enriched(kind))
    def holds(pairs):
        raw = binary([frame(OURS, message(kind), record) for record, _ in pairs])
        appended = topic_messages.append_vehicle(
            raw, tails_of(kind, [t for _, t in pairs]), VEHICLE
        )
        whole = [frame(VEHICLE, vehicle(kind), record | tail) for record, tail in pairs]
        assert appended.to_pylist() == whole

    holds()


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_appending_and_encoding_the_decoded_upload_give_the_same_bytes(kind):
    @few
    @given(enriched(kind))
    def holds(pairs):
        raw = binary([frame(OURS, message(kind), record) for record, _ in pairs])
        tails = tails_of(kind, [tail for _, tail in pairs])
        uploads = decoded(kind, raw.to_pylist())
        appended = topic_messages.append_vehicle(raw, tails, VEHICLE).to_pylist()
        again = topic_messages.encode_uploads(uploads, tails, VEHICLE).to_pylist()
        for row, allowed in enumerate(topic_messages.appendable_rows(raw, uploads)):
            assert not allowed or appended[row] == again[row]

    holds()


def report(**more):
    return {f["name"]: f.get("default") for f in message("log")["fields"]} | {
        "message_id": "0" * 32, "device_no": "0001", "device_gen": "STS", "received_time": NOON,
        "device_time": NOON,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "allowed"),
    [
        ({}, True),
        ({"device_no": "AB-1", "speed_kmh": 43.0, "extras": {"a": "1"}}, True),
        ({"message_id": ""}, False),
        ({"device_no": " 0001"}, False),
        ({"device_no": "ab-1"}, False),
        ({"received_time": 0}, False),
        ({"speed_kmh": float("nan")}, False),
        ({"device_time": -1}, False),
    ],
)
def test_only_a_datum_that_says_what_was_decoded_may_be_forwarded(changed, allowed):
    raw = [frame(OURS, message("log"), report(**row)) for row in ({}, changed, {"seq": 5})]
    [part] = decode(
        raw_batch(raw, offset=0, kafka=NOON), Decoder(writers=Writers({OURS: message("log")}))
    ).good
    assert topic_messages.appendable_rows(binary(raw), part).tolist() == [True, allowed, True]


def test_no_uploads_are_none_to_forward():
    none = decoded("log", [frame(OURS, message("log"), report())]).keep(pa.array([False]).to_numpy(
        zero_copy_only=False))  # fmt: skip
    assert topic_messages.appendable_rows(binary([]), none).tolist() == []


def changed(kind, change):
    writer = copy.deepcopy(message(kind))
    change(writer)
    return writer


def field(writer, name):
    return next(f for f in writer["fields"] if f["name"] == name)


def undocumented(value):
    """A schema as a registry may hand it out: only what Avro itself knows, types as objects."""
    if isinstance(value, list):
        return [undocumented(one) for one in value]
    if isinstance(value, dict):
        kept = {"type", "name", "namespace", "fields", "symbols", "items", "values", "logicalType"}
        return {k: undocumented(v) for k, v in value.items() if k in kept}
    return {"type": value, "avro.java.string": "String"} if value == "string" else value


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_our_own_schema_is_appendable_with_or_without_docs(kind):
    assert topic_messages.appendable(message(kind), kind)
    assert topic_messages.appendable(undocumented(message(kind)), kind)
    assert topic_messages.appendable(
        changed(kind, lambda w: w.update(doc="", aliases=["Old"])), kind
    )
    full = {"name": f"{message(kind)['namespace']}.{message(kind)['name']}", "namespace": "x"}
    assert topic_messages.appendable(changed(kind, lambda w: w.update(full)), kind)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w["fields"].pop(),
        lambda w: w["fields"].append({"name": "new", "type": "int"}),
        lambda w: w["fields"].insert(2, w["fields"].pop(3)),
        lambda w: field(w, "seq").update(name="sequence"),
        lambda w: field(w, "seq").update(type=["long", "null"]),
        lambda w: field(w, "seq").update(type=["null", "int"]),
        lambda w: field(w, "speed_kmh").update(type="float"),
        lambda w: field(w, "received_time").update(type="long"),
        lambda w: field(w, "received_time")["type"].update(logicalType="timestamp-micros"),
        lambda w: field(w, "device_gen")["type"]["symbols"].append("NEW"),
        lambda w: field(w, "tire_pressure_kpa")["type"].update(items="double"),
        lambda w: w.update(name="VehicleLog"),
    ],
)
def test_any_other_writer_schema_is_not_appendable(change):
    assert not topic_messages.appendable(changed("log", change), "log")


def test_a_writer_of_another_type_is_not_appendable():
    assert not topic_messages.appendable(message("log"), "boot")
    assert not topic_messages.appendable(message("log"), "minute")
    assert not topic_messages.appendable(vehicle("gps"), "gps")


# Encoding uploads.


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_what_was_encoded_is_decoded_to_the_same_upload(kind):
    @few
    @given(enriched(kind))
    def holds(pairs):
        first = decoded(kind, [frame(OURS, message(kind), record) for record, _ in pairs])
        tails = tails_of(kind, [tail for _, tail in pairs])
        again = decoded(kind, topic_messages.encode_uploads(first, tails, VEHICLE).to_pylist())
        assert same(rows_of(first.head), rows_of(again.head))
        assert same(rows_of(first.rows), rows_of(again.rows))

    holds()


def nullable(strategy):
    return st.none() | strategy


@st.composite
def any_uploads(draw, kind):
    """Uploads with any value and null in any column, and the records they should become."""
    records = draw(st.lists(uploads_of(kind), min_size=1, max_size=3))
    heads, rows = [], []
    for position, record in enumerate(records):
        samples = [record] if kind in REPORT_TYPES else record["samples"]
        heads.append({f.name: record.get(f.name) for f in HEAD} | {
            "topic": "t", "partition": 0, "line": position, "flags": 0,
            "extras": draw(st.sampled_from([list(record["extras"].items()), None])),
        })  # fmt: skip
        if heads[-1]["extras"] is None:
            record["extras"] = {}
        for sample in samples:
            given = {"upload": position, "flags": 0, "extras": None}
            for one in payload(kind):
                absent = "default" in one and draw(st.integers(0, 3)) == 0
                if absent:
                    sample[one["name"]] = one["default"]
                given[one["name"]] = None if absent else sample[one["name"]]
            rows.append(given)
    head = pa.RecordBatch.from_pylist(heads, schema=HEAD)
    return records, Uploads(kind, head, pa.RecordBatch.from_pylist(rows, schema=rows_schema(kind)))


def payload(kind):
    fields = message(kind)["fields"]
    if kind in REPORT_TYPES:
        return [f for f in fields if f["name"] not in HEAD.names]
    return fields[-1]["type"]["items"]["fields"]


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_any_upload_is_encoded_as_a_plain_encoder_does_with_defaults_for_nulls(kind):
    @few
    @given(any_uploads(kind), any_record(tail_schema(kind)))
    def holds(made, tail):
        records, uploads = made
        tails = tails_of(kind, [tail] * len(records))
        found = topic_messages.encode_uploads(uploads, tails, VEHICLE).to_pylist()
        assert found == [frame(VEHICLE, vehicle(kind), record | tail) for record in records]

    holds()


UNBOUND = {"binding_status": "UNBOUND", "vehicle": None, "enriched_time": 1, "enrich_attempt": 0}


def converted(messages, phones=None):
    """Vehicle messages of the only type in some STS or CSA messages."""
    decoder = Decoder(terminals=KnownTerminals(by_phone=phones))
    [part] = by_type(decode(raw_batch(messages), decoder).good)
    tails = tails_of(part.message_type, [UNBOUND] * len(part))
    values = topic_messages.encode_uploads(part, tails, VEHICLE).to_pylist()
    return [read(part.message_type, value) for value in values]


def test_a_vehicle_message_carries_what_the_terminal_said_in_its_order():
    samples = [fix(3, sp=999.0), fix(1, lat=None), fix(1, lat=None)]
    [record] = converted([gps(samples, device_no=" ab-1 ")])
    assert record["device_no"] == "AB-1"
    assert [s["device_time"] - NOON for s in record["samples"]] == [3000, 1000, 1000]
    assert [s["speed_kmh"] for s in record["samples"]] == [999.0, 60.0, 60.0]
    assert [s["lat_deg"] for s in record["samples"]] == [37.5, None, None]
    assert record["binding_status"] == "UNBOUND"
    assert len(record["message_id"]) == 32


def test_unknown_fields_of_a_report_and_of_its_envelope_become_its_extras():
    plain, strange = log(seq=1), log(seq=2, new=[1, 2]) | {"site": "서울"}
    first, second = sorted(converted([plain, strange]), key=lambda r: r["seq"])
    assert first["extras"] == {}
    assert second["extras"] == {"new": "[1,2]", "site": '"서울"'}


def test_unknown_fields_of_a_sample_name_the_sample_they_came_from():
    first = gps([fix(0), fix(1)], seq=1, site=1)
    second = gps([fix(0), fix(1, glonass=4), fix(2, glonass=5)], seq=2)
    one, two = sorted(converted([first, second]), key=lambda r: r["seq"])
    assert one["extras"] == {"site": "1"}
    assert two["extras"] == {"samples[1].glonass": "4", "samples[2].glonass": "5"}


def test_a_csa_line_becomes_a_vehicle_message():
    [record] = converted([csa()], {"01012345678": "0001"})
    assert (record["device_no"], record["device_gen"]) == ("0001", "CSA")
    assert record["boot_count"] is None
    assert (record["device_time"], record["speed_kmh"]) == (NOON, 43.0)


def test_a_boot_report_without_a_reason_says_unknown():
    [record] = converted([boot()])
    assert record["boot_reason"] == "UNKNOWN"


# Minutes and dead letters.


@few
@given(st.lists(any_record(load("vehicle_minute").avro), max_size=4))
def test_minutes_are_read_back_as_they_were_from_batches_and_tables(records):
    batch = table_of("vehicle_minute", records)
    framed = [frame(3, load("vehicle_minute").avro, record) for record in records]
    assert topic_messages.encode_minutes(batch, 3).to_pylist() == framed
    table = pa.concat_tables([pa.Table.from_batches([batch.slice(at, 1)]) for at in range(len(
        records))] or [pa.Table.from_batches([batch])])  # fmt: skip
    assert topic_messages.encode_minutes(table, 3).to_pylist() == framed


def minutes_at(*pairs):
    defaults = {f["name"]: f.get("default", 1) for f in load("vehicle_minute").avro["fields"]}
    rows = [defaults | {"vehicle_id": vehicle_id, "minute": ms} for vehicle_id, ms in pairs]
    return pa.RecordBatch.from_pylist(rows, schema=record_schema("vehicle_minute"))


def test_a_minutes_key_can_be_read_by_a_person_and_sorts_by_time():
    minutes = minutes_at(("CAR-1", NOON), ("CAR-1", NOON - 60_000), ("CAR-1", 0), ("차|1", NOON))
    keys = topic_messages.minute_keys(minutes).to_pylist()
    assert keys[0] == b"CAR-1|2024-01-15T03:00Z"
    assert keys[1:] == [b"CAR-1|2024-01-15T02:59Z", b"CAR-1|1970-01-01T00:00Z",
                        "차|1|2024-01-15T03:00Z".encode()]  # fmt: skip
    assert sorted(keys[:3]) == keys[2::-1]
    read_back = [topic_messages.minute_of(key) for key in keys]
    assert [(vehicle_id, round(time.timestamp() * 1000)) for vehicle_id, time in read_back] == [
        ("CAR-1", NOON), ("CAR-1", NOON - 60_000), ("CAR-1", 0), ("차|1", NOON),
    ]  # fmt: skip


@pytest.mark.parametrize("key", [b"", b"CAR-1", b"CAR-1|", b"CAR-1|2024-01-15", b"\xff|"])
def test_a_text_that_is_no_minutes_key_is_refused(key):
    with pytest.raises(ValueError):
        topic_messages.minute_of(key)


def test_a_dead_letter_keeps_the_exact_bytes_and_its_key_is_its_place():
    raw = raw_batch([b"\x80\xff\0{", encoded(log())], offset=9)
    dead = dead_letters(raw, [Refusal(0, "BAD_AVRO", "why", "0001")], "DECODE", Bounds()
                        .max_dead_letter_bytes)  # fmt: skip
    [value] = topic_messages.encode_dead_letters(dead, 4).to_pylist()
    record = fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed(load("dead_letter").avro))
    assert value[:5] == b"\0\0\0\0\4"
    assert record["raw_value"] == b"\x80\xff\0{"
    [letter] = rows_of(dead)
    assert (record["source_offset"], record["raw_headers"]) == (9, {})
    assert topic_messages.dead_letter_keys(dead).to_pylist() == [letter["dead_letter_id"].encode()]


@few
@given(st.lists(any_record(load("dead_letter").avro), max_size=4))
def test_dead_letters_are_encoded_as_they_are(records):
    avro = load("dead_letter").avro
    found = topic_messages.encode_dead_letters(table_of("dead_letter", records), 4)
    assert found.to_pylist() == [frame(4, avro, record) for record in records]

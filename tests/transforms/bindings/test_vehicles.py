"""Bytes that make a vehicle message of a device message are what fastavro would have written."""

import copy
import io
from concurrent.futures import ThreadPoolExecutor

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import transforms.bindings.vehicles as module
from schemas import MESSAGE_TYPES, load
from transforms.bindings.bindings import SCHEMA as BINDING
from transforms.bindings.bindings import STATUS, Bindings
from transforms.bindings.vehicles import SCHEMA, Vehicles

ENRICHED = ("binding_status", "vehicle", "enriched_time", "enrich_attempt")
NOON = 1_705_287_600_000
FIELDS = load("vehicle_gps").avro["fields"][-4:]
TAIL = fastavro.parse_schema({"type": "record", "name": "Tail", "fields": copy.deepcopy(FIELDS)})


def bindings_of(rows):
    """Of (device_no, vehicle_id, from, to, version)."""
    return Bindings.from_table(pa.table(list(zip(*rows, strict=True)), BINDING))


def vehicles_of(bindings, rows=(), version_ms=NOON):
    return Vehicles(bindings, pa.Table.from_pylist(list(rows), SCHEMA), version_ms)


def row(vehicle_id, **given):
    empty = dict.fromkeys(SCHEMA.names) | {"plate_no": "", "model_name": "", "fuel_type": "UNKNOWN"}
    return empty | {"vehicle_id": vehicle_id} | given


def by_fastavro(vehicles, change):
    code = int(vehicles.bindings.vehicle_of(np.array([change]))[0])
    datum = {
        "binding_status": STATUS[min(code, 0) * -1],
        "vehicle": None,
        "enriched_time": vehicles.version_ms,
        "enrich_attempt": 0,
    }
    if code >= 0:
        version = int(vehicles.bindings.version_of(np.array([change]))[0])
        datum["vehicle"] = vehicles.rows.slice(code, 1).to_pylist()[0] | {
            "binding_version": version,
            "dim_as_of": vehicles.version_ms,
        }
    out = io.BytesIO()
    fastavro.schemaless_writer(out, TAIL, datum)
    return out.getvalue()


@pytest.mark.parametrize("message_type", MESSAGE_TYPES)
def test_a_vehicle_message_is_a_device_message_and_four_fields(message_type):
    device = load(f"message_{message_type}").avro["fields"]
    vehicle = load(f"vehicle_{message_type}").avro["fields"]
    without_doc = [{**field, "doc": ""} for field in vehicle]
    assert [f["name"] for f in vehicle] == [*(f["name"] for f in device), *ENRICHED]
    assert without_doc[-4:] == [{**field, "doc": ""} for field in FIELDS]


THREE = [
    ("0001", "V1", 0, NOON, 1),
    ("0002", "V2", 0, None, 300),
    ("0003", "V1", 0, None, 1),
    ("0003", "V2", NOON, None, 2),
]
texts = st.text(max_size=200)
binding = st.tuples(
    st.sampled_from(["a", "b", "c"]), texts.filter(bool), st.integers(0, 9), st.none(),
    st.integers(-(2**63), 2**63 - 1),
)  # fmt: skip
known = st.fixed_dictionaries(
    dict.fromkeys(("plate_no", "model_name", "fuel_type"), texts)
    | dict.fromkeys(("region_code", "zone_id", "fleet_status"), st.none() | texts)
)


@settings(deadline=None)
@given(
    st.lists(binding, min_size=1, max_size=8),
    st.lists(known, max_size=8),
    st.integers(0, 2**62),
    st.lists(st.integers(), max_size=20),
)
def test_the_bytes_are_those_of_fastavro(rows, facts, version_ms, picks):
    bindings = bindings_of(rows)
    table = [
        row(vehicle_id, **fact)
        for vehicle_id, fact in zip(bindings.vehicles.to_pylist(), facts, strict=False)
    ]
    vehicles = vehicles_of(bindings, table, version_ms)
    changes = len(bindings.vehicle)
    for part in (picks[::2], picks):
        change = np.array([pick % (changes + 1) - 1 for pick in part], np.int64)
        assert vehicles.encoded(change).to_pylist() == [by_fastavro(vehicles, c) for c in change]


def test_raw_datum_and_bytes_are_the_whole_message_encoded():
    bindings = bindings_of(THREE)
    vehicles = vehicles_of(bindings, [row("V1", plate_no="12가3456", zone_id="Z1")])
    for message_type in MESSAGE_TYPES:
        narrow = fastavro.parse_schema(copy.deepcopy(load(f"message_{message_type}").avro))
        wide = fastavro.parse_schema(copy.deepcopy(load(f"vehicle_{message_type}").avro))
        message = {"message_id": "m", "device_no": "0001", "received_time": NOON, "samples": []}
        raw = io.BytesIO()
        fastavro.schemaless_writer(raw, narrow, message)
        change = bindings.change_at(bindings.find(pa.array(["0001"])), np.array([5]))
        whole = raw.getvalue() + vehicles.encoded(change)[0].as_py()
        read = fastavro.schemaless_reader(io.BytesIO(whole), wide)
        assert read["vehicle"]["plate_no"] == "12가3456"
        again = io.BytesIO()
        fastavro.schemaless_writer(again, wide, read)
        assert again.getvalue() == whole


def status_at(vehicles, device_no, event_ms):
    found = vehicles.bindings.find(pa.array([device_no]))
    change = vehicles.bindings.change_at(found, np.array([event_ms]))
    data = vehicles.encoded(change)[0].as_py()
    return fastavro.schemaless_reader(io.BytesIO(data), TAIL)


def test_unbound_and_ambiguous_uploads_have_no_vehicle():
    vehicles = vehicles_of(bindings_of(THREE))
    for device_no, moment, status in (
        ("0001", NOON, "UNBOUND"), ("9999", NOON, "UNBOUND"), ("0003", NOON, "AMBIGUOUS"),
    ):  # fmt: skip
        read = status_at(vehicles, device_no, moment)
        assert (read["binding_status"], read["vehicle"]) == (status, None)


def test_a_vehicle_that_the_table_does_not_know_is_bound_all_the_same():
    read = status_at(vehicles_of(bindings_of(THREE), [row("V1", plate_no="P")]), "0002", 1)
    assert read["binding_status"] == "BOUND"
    vehicle = read["vehicle"]
    assert (vehicle["vehicle_id"], vehicle["plate_no"], vehicle["fuel_type"]) == (
        "V2", "", "UNKNOWN",
    )  # fmt: skip
    assert vehicle["fleet_status"] is None
    assert vehicle["binding_version"] == 300


def test_bindings_alone_make_vehicles_of_their_ids():
    read = status_at(Vehicles.unknown(bindings_of(THREE)), "0001", 1)
    assert read["vehicle"]["vehicle_id"] == "V1"
    assert read["enriched_time"].timestamp() == 0


def test_no_uploads_give_no_bytes():
    assert len(vehicles_of(bindings_of(THREE)).encoded(np.empty(0, np.int64))) == 0


def test_both_times_are_the_snapshots_so_that_a_replay_gives_the_same_bytes():
    one, two = (vehicles_of(bindings_of(THREE)) for _ in range(2))
    change = np.array([-1, 0, 1, 2, 0])
    assert one.encoded(change).equals(two.encoded(change))
    read = status_at(one, "0001", 1)
    assert read["enriched_time"] == read["vehicle"]["dim_as_of"]


@pytest.mark.parametrize("kept_bytes", [0, 1000, 1 << 30])
def test_what_is_kept_changes_no_byte(monkeypatch, kept_bytes):
    monkeypatch.setattr(module, "KEPT_BYTES", kept_bytes)
    bindings = bindings_of([(f"{n}", f"V{n % 700}", 0, None, n) for n in range(5000)])
    vehicles = vehicles_of(bindings)
    random = np.random.default_rng(1)
    for _ in range(6):
        change = random.integers(-1, 5000, 900)
        expected = Vehicles(bindings, SCHEMA.empty_table(), NOON).encoded(change)
        assert vehicles.encoded(change).equals(expected)


def test_several_threads_may_encode_at_once():
    bindings = bindings_of([(f"{n}", f"V{n}", 0, None, n) for n in range(3000)])
    vehicles, expected = vehicles_of(bindings), vehicles_of(bindings)
    batches = [np.random.default_rng(seed).integers(-1, 3000, 500) for seed in range(40)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(vehicles.encoded, batches))
    for batch, one in zip(batches, found, strict=True):
        assert one.equals(expected.encoded(batch))


def test_vehicles_never_show_what_they_hold():
    assert "12가3456" not in repr(vehicles_of(bindings_of(THREE), [row("V1", plate_no="12가3456")]))

"""A job never starts without a snapshot, and keeps its last one through an outage, up to an age."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from connectors.errors import DependencyFailed, MissingSecret
from connectors.operations_db import refresh as module
from connectors.operations_db.bindings_file import BadBindings
from connectors.operations_db.refresh import DatabaseHolder, held, held_file
from connectors.storage.settings import S3Settings
from tests.support.database import bind, new_database, register, until
from transforms.bindings.bindings import UNBOUND

pytestmark = pytest.mark.servers

RARELY = 3600


@pytest.fixture
def server(postgres):
    yield postgres
    if postgres.process.running() is None:
        postgres.start()
    postgres.ready()


@pytest.fixture
def database(server):
    server.process.running() or server.start()
    made = new_database(server)
    made.run(bind(), register())
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.5)


@pytest.fixture
def holding():
    """Makes holders and closes them."""
    made = []

    def hold(database, **given):
        made.append(DatabaseHolder(database.settings(**given)))
        return made[-1]

    yield hold
    for holder in made:
        holder.close()


def vehicle(snapshot, device_no="0001", moment=1_800_000_000_000):
    bindings = snapshot.bindings
    code = int(bindings.vehicle_at(pa.array([device_no]), np.array([moment]))[0])
    return bindings.vehicles[code].as_py() if code != UNBOUND else None


def test_the_first_snapshot_is_there_when_the_holder_is(database, holding):
    current = holding(database, refresh_s=RARELY).current
    assert vehicle(current) == "V1"
    assert current.vehicles.rows["plate_no"].to_pylist() == ["12가3456"]
    assert current.known.restore_zeros(1) == ["0001"]
    newest = database.run("SELECT max(updated_at) FROM vehicle")[0][0]
    assert current.version_ms == current.vehicles.version_ms == int(newest.timestamp() * 1000)


def test_a_change_is_seen_because_it_was_told(database, holding):
    holder = holding(database, refresh_s=RARELY)
    before = holder.current
    database.run("UPDATE device_binding SET vehicle_id = 'V2'")
    until(lambda: vehicle(holder.current) == "V2")
    assert holder.version_ms > before.version_ms
    assert vehicle(before) == "V1"


def test_a_change_of_a_vehicle_is_seen_too(database, holding):
    holder = holding(database, refresh_s=RARELY)
    database.run("UPDATE vehicle SET zone_id = 'Z9'")
    until(lambda: holder.current.vehicles.rows["zone_id"].to_pylist() == ["Z9"])


def test_a_change_that_nobody_told_is_seen_by_the_clock(database, holding):
    database.run("ALTER TABLE device_binding DISABLE TRIGGER device_binding_told")
    holder = holding(database, refresh_s=0.3)
    database.run("UPDATE device_binding SET vehicle_id = 'V2'")
    until(lambda: vehicle(holder.current) == "V2")


def test_where_nothing_changes_the_snapshot_stays_and_does_not_age(database, holding):
    holder = holding(database, refresh_s=0.3)
    first = holder.current
    oldest = holder.age_s
    until(lambda: holder.age_s < oldest or oldest > 60)
    assert holder.current is first
    assert holder.failures == 0


def test_start_is_refused_without_a_database(server):
    database = new_database(server)
    server.stop()
    try:
        with pytest.raises(DependencyFailed) as refused:
            held(database.settings())
    finally:
        server.start()
        server.ready()
    for word in (database.name, "127.0.0.1", "bindings_database", "odograph database apply"):
        assert word in str(refused.value)


def test_start_is_refused_on_no_binding_and_allowed_once_there_is_one(server):
    database = new_database(server)
    settings = database.settings()
    with pytest.raises(DependencyFailed, match="device_binding is empty"):
        held(settings)
    database.run(bind())
    holder = held(settings)
    assert vehicle(holder.current) == "V1"
    holder.close()


def test_start_is_refused_without_the_password(database):
    settings = database.settings().model_copy(update={"password": "env:ODOGRAPH_NO_SUCH"})
    with pytest.raises(MissingSecret, match="ODOGRAPH_NO_SUCH"):
        held(settings)


def test_an_outage_keeps_the_last_snapshot_which_ages_and_is_renewed_afterwards(
    database, holding, server
):
    holder = holding(database, refresh_s=0.3)
    before = holder.current
    server.kill()
    until(lambda: holder.failures >= 2)
    age = holder.age_s
    until(lambda: holder.age_s > age)
    assert holder.current is before
    server.start()
    server.ready()
    database.run("UPDATE device_binding SET vehicle_id = 'V2'")
    until(lambda: vehicle(holder.current) == "V2")


def test_a_change_during_a_lost_connection_is_seen_without_being_told(database, holding):
    holder = holding(database, refresh_s=RARELY)
    until(lambda: listeners(database))
    database.run(
        "ALTER TABLE device_binding DISABLE TRIGGER device_binding_told",
        "UPDATE device_binding SET vehicle_id = 'V2'",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'odograph' AND datname = current_database()",
    )
    until(lambda: vehicle(holder.current) == "V2")
    assert holder.failures == 1


def listeners(database):
    return database.run(
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'odograph' "
        "AND datname = current_database() AND query LIKE 'LISTEN%'"
    )


def test_a_snapshot_that_is_too_old_stops_the_job_until_the_database_is_back(
    database, holding, server
):
    holder = holding(database, refresh_s=0.3, max_age_s=30)
    server.kill()
    until(lambda: holder.failures >= 2)
    assert vehicle(holder.current) == "V1"
    holder._read_at -= 30
    with pytest.raises(DependencyFailed) as stopped:
        _ = holder.current
    for word in (database.name, "max_age_s is 30", "refused", "make the database reachable"):
        assert word in str(stopped.value)
    server.start()
    server.ready()
    until(lambda: holder.age_s < 30)
    assert vehicle(holder.current) == "V1"


def test_an_emptied_table_never_unbinds_the_fleet(database, holding, caplog):
    holder = holding(database, refresh_s=RARELY)
    database.run("TRUNCATE device_binding")
    until(lambda: holder.failures >= 1)
    assert vehicle(holder.current) == "V1"
    assert "device_binding is empty" in caplog.text
    database.run(bind(vehicle_id="V2"))
    until(lambda: vehicle(holder.current) == "V2")


def test_a_reader_never_sees_two_states_mixed(database, holding):
    """Every transaction moves the only terminal into a new vehicle whose plate has its number."""
    holder = holding(database, refresh_s=RARELY)
    stop = threading.Event()

    def look():
        seen = set()
        while not stop.is_set():
            now = holder.current
            name = vehicle(now)
            plates = now.vehicles.rows["plate_no"].to_pylist()
            found = now.bindings.find(pa.array(["0001"]))
            change = now.bindings.change_at(found, np.array([2**50]))
            data = now.vehicles.encoded(change)[0].as_py()
            if name != "V1":
                assert plates == [f"P{name}"]
            assert f"{name}".encode() in data and plates[0].encode() in data
            seen.add(name)
        return seen

    with ThreadPoolExecutor(3) as readers:
        looking = [readers.submit(look) for _ in range(3)]
        try:
            for number in range(2, 8):
                name = f"V{number}"
                database.run(
                    f"UPDATE device_binding SET vehicle_id = '{name}'",
                    "DELETE FROM vehicle",
                    register(name, f"P{name}"),
                )
                until(lambda name=name: vehicle(holder.current) == name)
        finally:
            stop.set()
        assert set.union(*(one.result() for one in looking)) > {"V2"}


def test_a_process_holds_one_snapshot_however_many_ask(database):
    settings = database.settings(refresh_s=RARELY)
    with ThreadPoolExecutor(8) as threads:
        holders = list(threads.map(lambda _: held(settings), range(8)))
    assert len({id(holder) for holder in holders}) == 1
    holders[0].close()


def test_number_plates_are_in_no_log_and_no_message(database, holding, caplog, server):
    with caplog.at_level(logging.DEBUG):
        holder = holding(database, refresh_s=0.3)
        database.run("UPDATE vehicle SET plate_no = '77호7777'")
        until(lambda: "77호7777" in holder.current.vehicles.rows["plate_no"].to_pylist())
        database.run("ALTER TABLE vehicle DROP COLUMN zone_id", "DELETE FROM vehicle")
        until(lambda: holder.failures >= 1)
        logging.getLogger("test").info("%r %s", holder.current, holder.current.vehicles)
    assert "version" in caplog.text
    assert "3456" not in caplog.text
    assert "7777" not in caplog.text


def test_a_file_is_held_like_a_database(tmp_path):
    path = tmp_path / "bindings.csv"
    path.write_text("device_no,vehicle_id,valid_from,valid_to\n0001,V1,2024-01-15T00:00:00Z,\n")
    holder = held_file(str(path), S3Settings())
    assert vehicle(holder.current) == "V1"
    assert holder.current.vehicles.rows["plate_no"].to_pylist() == [""]
    assert (holder.age_s, holder.version_ms, holder.failures) == (0, 0, 0)
    assert held_file(str(path), S3Settings()) is holder


def test_start_is_refused_on_a_wrong_file(tmp_path):
    with pytest.raises(BadBindings, match="does not exist"):
        held_file(str(tmp_path / "none.csv"), S3Settings())

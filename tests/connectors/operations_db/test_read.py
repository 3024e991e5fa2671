"""The tables of the operations database refuse nonsense, and are read as one snapshot."""

import threading
from datetime import UTC, datetime

import psycopg
import pyarrow as pa
import pytest

from connectors.errors import DependencyFailed
from connectors.operations_db import read
from connectors.operations_db.bindings_file import BadBindings
from connectors.operations_db.settings import DatabaseSettings
from connectors.operations_db.tables import apply, exclusive, load, read_vehicles
from schemas import load as schema
from tests.support.database import bind, new_database, register
from transforms.bindings.bindings import SCHEMA

pytestmark = pytest.mark.servers

FROM = datetime(2024, 1, 15, tzinfo=UTC)


@pytest.fixture
def server(postgres):
    return postgres


@pytest.fixture
def database(server):
    return new_database(server)


def rows(database):
    return read.read(database.settings()).bindings.to_pylist()


def version(database):
    return read.read(database.settings()).version_ms


def facts(database, device_no="0001"):
    return database.run(
        "SELECT binding_version, updated_at FROM device_binding "
        f"WHERE device_no = '{device_no}' ORDER BY valid_from"
    )


@pytest.mark.parametrize("name, table", [("vehicle_dim", "vehicle"), ("device_binding",) * 2])
def test_a_table_has_the_columns_of_its_schema_file(database, name, table):
    found = database.run(
        f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'"
    )
    wanted = {field.name for field in schema(name).fields}
    assert {column for (column,) in found} - {"msisdn"} == wanted


def test_applying_again_keeps_what_is_there(database):
    database.run(bind())
    before = rows(database)
    apply(database.settings())
    assert rows(database) == before


def test_several_may_apply_at_once(server):
    database = new_database(server, tables=False)
    errors = []

    def one():
        try:
            apply(database.settings())
        except DependencyFailed as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("until", [None, "infinity", "2024-02-01"])
@pytest.mark.parametrize("since", ["2024-01-20", "2023-01-01", "-infinity"])
def test_two_vehicles_at_one_instant_are_refused(database, since, until):
    database.run(bind(until=until and until.replace("infinity", "9998-01-01")))
    with pytest.raises(psycopg.errors.ExclusionViolation) as refused:
        database.run(bind(vehicle_id="V2", since=since))
    assert refused.value.sqlstate == "23P01"


def test_a_swap_instant_belongs_to_one_vehicle_and_other_terminals_do_not_matter(database):
    database.run(bind(until="2024-02-01"), bind(vehicle_id="V2", since="2024-02-01"), bind("0002"))
    assert len(rows(database)) == 3


@pytest.mark.parametrize("until", ["2024-01-15", "2024-01-14"])
def test_a_binding_that_ends_before_it_begins_is_refused(database, until):
    with pytest.raises(psycopg.errors.CheckViolation):
        database.run(bind(until=until))


@pytest.mark.parametrize("device_no", ["", " 0001", "0sl1", "9" * 65])
def test_a_terminal_is_written_as_decoding_writes_it(database, device_no):
    with pytest.raises(psycopg.errors.CheckViolation):
        database.run(bind(device_no=device_no))


def test_a_change_raises_version_and_time(database):
    database.run(bind(version=7))
    before = facts(database)[0]
    database.run("UPDATE device_binding SET valid_to = '2024-02-01+00'")
    after = facts(database)[0]
    assert after[0] == 8
    assert after[1] > before[1]


def test_an_update_that_changes_nothing_raises_nothing(database):
    database.run(bind())
    before = facts(database)
    database.run("UPDATE device_binding SET vehicle_id = vehicle_id")
    assert facts(database) == before


def test_nobody_sets_the_time_of_a_change_but_the_database(database):
    database.run(bind(), "UPDATE device_binding SET updated_at = '1999-01-01'")
    assert facts(database)[0][1].year > 1999


def test_a_row_without_a_version_gets_the_terminals_next(database):
    database.run(bind(until="2024-02-01", version=5))
    database.run(bind(since="2024-02-01", version="NULL"), bind("0002", version="NULL"))
    assert [found for found, _ in facts(database)] == [5, 6]
    assert facts(database, "0002")[0][0] == 1


def test_a_deleted_row_raises_the_snapshots_version_too(database):
    database.run(bind(), bind("0002"))
    before = version(database)
    database.run("SELECT pg_sleep(0.005)", "DELETE FROM device_binding WHERE device_no = '0002'")
    assert version(database) > before


def test_the_version_is_the_newest_change_of_either_table(database):
    database.run(bind())
    database.run("SELECT pg_sleep(0.005)", register())
    newest = database.run("SELECT floor(extract(epoch FROM updated_at) * 1000) FROM vehicle")
    assert version(database) == newest[0][0]


def test_a_change_is_told_once_a_transaction(database):
    with database.connect() as listening:
        listening.execute(f"LISTEN {read.CHANNEL}")
        database.run(*(bind(f"{number:04d}") for number in range(20)), register())
        told = [one.payload for one in listening.notifies(timeout=10, stop_after=2)]
        told += [one.payload for one in listening.notifies(timeout=0.2)]
    assert sorted(told) == ["device_binding", "vehicle"]


def test_open_ends_are_null_however_they_are_written(database):
    database.run(bind("0001"), bind("0002", until="9999-06-01"), bind("0003", since="-infinity"))
    database.run("INSERT INTO device_binding VALUES ('0004', 'V1', '2024-01-15+00', 'infinity', 1)")
    found = {row["device_no"]: row for row in rows(database)}
    assert [found[name]["valid_to"] for name in sorted(found)] == [None] * 4
    assert found["0003"]["valid_from"] == datetime(1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("zone, style", [("Asia/Seoul", "German, DMY"), ("UTC", "SQL, MDY")])
def test_neither_zone_nor_style_of_the_database_moves_an_instant(database, zone, style):
    for setting, value in (("timezone", zone), ("datestyle", style)):
        database.run(f"ALTER DATABASE {database.name} SET {setting} = '{value}'")
    database.run(bind(until="2024-01-15 00:00:00.0019"))
    row = rows(database)[0]
    assert row["valid_from"] == FROM
    assert row["valid_to"] == FROM.replace(microsecond=1000)


def test_texts_come_as_they_are(database):
    texts = ["", 'a "b", c', "line\nbreak", "NULL", "\\N", " blank "]
    for number, text in enumerate(texts):
        database.run(register(f"V{number}", model_name=text, zone_id=text))
    database.run(bind(), register("V9"))
    found = read.read(database.settings()).vehicles.sort_by("vehicle_id").to_pylist()
    assert [row["model_name"] for row in found] == [*texts, "RAY"]
    assert [row["zone_id"] for row in found] == [*texts, None]


def test_many_blocks_make_one_table(database, monkeypatch):
    monkeypatch.setattr(read, "_BLOCK_BYTES", 1000)
    database.run(
        "INSERT INTO device_binding SELECT lpad(n::text, 10, '0'), 'V' || n, now(), NULL, n "
        "FROM generate_series(1, 500) n"
    )
    found = read.read(database.settings()).bindings
    assert sorted(found["binding_version"].to_pylist()) == list(range(1, 501))
    assert found.schema == SCHEMA


def test_a_phone_that_moved_belongs_to_its_newest_terminal(database):
    assert_none = [bind("0003")]
    database.run(*assert_none)
    assert read.read(database.settings()).phones is None
    database.run(
        bind("0001", since="2024-02-01"), bind("0002", since="2024-01-01"),
        "UPDATE device_binding SET msisdn = '01012345678' WHERE device_no < '0003'",
    )  # fmt: skip
    assert read.read(database.settings()).phones == {"01012345678": "0001"}


def test_both_tables_are_read_at_one_instant(database):
    """Every transaction moves the only terminal into a new vehicle, and adds that vehicle."""
    database.run(bind(vehicle_id="V0"), register("V0", "P0"))
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            database.run(
                f"UPDATE device_binding SET vehicle_id = 'V{number}'",
                "DELETE FROM vehicle",
                register(f"V{number}", f"P{number}"),
            )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        while len(seen) < 10:
            found = read.read(database.settings())
            bound = found.bindings["vehicle_id"].to_pylist()
            assert bound == found.vehicles["vehicle_id"].to_pylist()
            seen.update(bound)
    finally:
        stop.set()
        writer.join()


def test_what_has_not_changed_is_told_without_reading(database):
    settings = database.settings()
    database.run(bind(), register())
    mark = read.read(settings).mark
    assert read.unchanged(settings, mark)
    for change in (
        "UPDATE vehicle SET zone_id = 'Z'",
        bind("0002"),
        "DELETE FROM device_binding WHERE device_no = '0002'",
    ):
        database.run(change)
        assert not read.unchanged(settings, mark)
        mark = read.read(settings).mark
        assert read.unchanged(settings, mark)


def test_a_transaction_that_commits_after_a_later_change_is_noticed(database):
    database.run(bind(), register())
    with database.connect() as slow, slow.transaction():
        slow.execute("UPDATE device_binding SET vehicle_id = 'V2'")
        database.run("UPDATE vehicle SET zone_id = 'Z'")
        mark = read.read(database.settings()).mark
    assert not read.unchanged(database.settings(), mark)


def refused(settings):
    with pytest.raises(DependencyFailed) as error:
        read.read(settings)
    return str(error.value)


def test_an_empty_table_is_refused_by_name(database):
    message = refused(database.settings())
    for word in (database.name, "127.0.0.1", "device_binding is empty", "odograph database load"):
        assert word in message


def test_missing_tables_are_refused_with_what_to_do(server):
    message = refused(new_database(server, tables=False).settings())
    assert "odograph database apply" in message


def test_a_table_of_someone_elses_making_is_refused_without_quoting_a_row(server):
    database = new_database(server)
    database.run(
        "ALTER TABLE device_binding ALTER binding_version TYPE text",
        "ALTER TABLE device_binding DISABLE TRIGGER USER",
        "INSERT INTO device_binding VALUES "
        "('0001', 'V1', '2024-01-15+00', NULL, 'secret', NULL, NULL, now())",
    )
    message = refused(database.settings())
    assert "binding_version" in message
    assert "secret" not in message


@pytest.mark.parametrize("conninfo", [None, "not a conninfo"])
def test_without_a_database_it_says_what_to_set(conninfo):
    assert "bindings_database.conninfo" in refused(DatabaseSettings(conninfo=conninfo))


def test_a_wrong_password_is_named_but_not_told(database, tmp_path):
    wrong = tmp_path / "password"
    wrong.write_text("hunter2")
    settings = database.settings().model_copy(update={"password": f"file:{wrong}"})
    message = refused(settings)
    assert "password authentication failed" in message
    assert "hunter2" not in message


def table(*given):
    """Bindings of (device_no, vehicle_id, from ms, to ms, version)."""
    return pa.table(list(zip(*given, strict=True)), SCHEMA)


def vehicles(text):
    return read_vehicles(("vehicle_id,plate_no,model_name,model_year\n" + text).encode(), "v.csv")


NONE = vehicles("")


def test_a_load_gives_the_terminals_it_names_exactly_its_rows(database):
    settings = database.settings()
    first = table(("0001", "V1", 0, 10, 1), ("0001", "V2", 10, None, 2), ("0002", "V3", 0, None, 4))
    assert load(settings, first, NONE, False, False).bindings == 3
    second = table(("0001", "V2", 5, None, 3))
    done = load(settings, second, NONE, False, False)
    assert (done.removed, done.bindings) == (2, 1)
    found = read.read(settings).bindings.sort_by("device_no")
    assert found.equals(table(("0001", "V2", 5, None, 3), ("0002", "V3", 0, None, 4)))


def test_a_second_load_changes_nothing(database):
    settings = database.settings()
    rows, known = table(("0001", "V1", 0, 10, 1)), vehicles("V1,12가3456,RAY,2023\n")
    load(settings, rows, known, False, False)
    before = read.read(settings)
    done = load(settings, rows, known, False, False)
    assert (done.removed, done.bindings, done.vehicles) == (0, 0, 0)
    after = read.read(settings)
    assert after.vehicles.equals(before.vehicles)
    newest = "SELECT max(updated_at) FROM "
    assert database.run(newest + "device_binding")[0][0].timestamp() * 1000 <= after.version_ms + 1


def test_a_load_changes_vehicles_and_made_up_ones_change_none(database):
    settings, rows = database.settings(), table(("0001", "V1", 0, 10, 1))
    load(settings, rows, vehicles("V1,12가3456,RAY,2023\n"), False, False)
    assert load(settings, rows, vehicles("V1,34나5678,K3,\n"), True, False).vehicles == 0
    assert load(settings, rows, vehicles("V1,34나5678,K3,\n"), False, False).vehicles == 1
    assert database.run("SELECT plate_no, model_year FROM vehicle") == [("34나5678", None)]


CLAIMED = table(
    ("0001", "V1", 0, None, 1), ("0001", "V2", 10, 20, 1), ("0002", "V3", 5, 9, 1),
    ("0002", "V4", 5, 9, 2),
)  # fmt: skip


def test_a_file_in_which_two_vehicles_claim_a_terminal_is_refused(database):
    with pytest.raises(BadBindings, match=r"0001 from 1970-01-01T00:00:00\.010Z"):
        load(database.settings(), CLAIMED, NONE, False, False)
    assert database.run("SELECT count(*) FROM device_binding") == [(0,)]


def test_claimed_intervals_are_left_out_when_asked_and_the_highest_version_stands(database):
    done = load(database.settings(), CLAIMED, NONE, False, True)
    assert done.ambiguous == 1
    found = read.read(database.settings()).bindings
    assert sorted(found.to_pylist(), key=str) == sorted(exclusive(CLAIMED)[0].select(
        SCHEMA.names).to_pylist(), key=str)  # fmt: skip
    assert sorted(found["vehicle_id"].to_pylist()) == ["V1", "V1", "V4"]


def test_a_load_that_fails_changes_nothing_and_quotes_no_plate(database):
    wrong = vehicles("V1,12 가3456,RAY,2023\n")
    with pytest.raises(DependencyFailed) as failed:
        load(database.settings(), table(("0001", "V1", 0, 10, 1)), wrong, False, False)
    assert "vehicle_plate_no_check" in str(failed.value)
    assert "3456" not in str(failed.value)
    assert database.run("SELECT count(*) FROM device_binding") == [(0,)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("V1,12가3456,RAY,new\n", ["model_year", "cannot be read"]),
        ("V1,,RAY,2023\n", ["plate_no", "row 1"]),
        ("V1,12가3456,RAY,2023\nV1,12가3457,K3,2023\n", ["V1", "twice"]),
        ("V1,12가3456\n", ["cannot be read"]),
    ],
)
def test_a_wrong_vehicles_file_is_refused_without_quoting_a_plate(text, words):
    with pytest.raises(BadBindings) as refused:
        vehicles(text)
    assert [word for word in words if word not in str(refused.value)] == []
    assert "3456" not in str(refused.value)


def test_a_vehicles_file_without_a_needed_column_is_refused():
    with pytest.raises(BadBindings, match="model_name"):
        read_vehicles(b"vehicle_id,plate_no\nV1,P\n", "v.csv")

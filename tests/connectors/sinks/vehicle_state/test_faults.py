"""A database that is away, busy or in somebody's hands is waited for; what it holds stays right."""

import threading
import time

import psycopg
import pytest

from connectors.errors import DependencyFailed
from connectors.operations_db.settings import DatabaseSettings
from connectors.sinks.tables import TELEMETRY
from connectors.sinks.vehicle_state.client import StateConnection
from connectors.sinks.vehicle_state.settings import StateSettings
from connectors.sinks.vehicle_state.sink import StateStore
from runners.stack.processes import free_port
from runners.stack.servers.postgres import Postgres
from tests.support.database import Database, new_database, until
from tests.support.servers import CACHE, running, server_folder
from tests.support.vehicle_state import SOON, judged, row, same, store, write

pytestmark = pytest.mark.servers

TABLES = tuple(TELEMETRY.values())


@pytest.fixture
def database(postgres):
    return new_database(postgres, tables=False)


@pytest.fixture
def sink(database):
    one = store(database)
    one.prepare(TABLES)
    yield one
    one.close()


def aside(work):
    """Run `work` in a thread; its result once joined, or what it raised."""
    found = []

    def run():
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def joined():
        thread.join(120)
        return found[0]

    return joined


def waiting(database) -> bool:
    """Whether somebody waits for a lock in this database."""
    ((count,),) = database.run(
        "SELECT count(*) FROM pg_stat_activity "
        f"WHERE datname = '{database.name}' AND wait_event_type = 'Lock'"
    )
    return count > 0


def test_a_database_that_is_killed_in_the_middle_of_a_write_loses_nothing():
    rows = [row(second, f"V{second % 5}", odometer_m=second) for second in range(60)]
    with (
        server_folder() as folder,
        running(Postgres(folder / "postgres", CACHE, free_port())) as server,
    ):
        database = Database(server, "fleet")
        sink = store(database)
        sink.prepare(TABLES)
        write(sink, "log", *rows[:20])
        somebody = database.connect()
        somebody.execute("BEGIN")
        somebody.execute("SELECT FROM device_state FOR UPDATE")
        done = aside(lambda: write(sink, "log", *rows[20:40]))
        until(lambda: waiting(database))
        server.kill()
        somebody.close()
        server.start()
        server.ready()
        assert done().retries >= 1
        write(sink, "log", *rows[40:])
        sink.close()
        same(database, [("log", rows)])


def test_a_connection_that_is_ended_by_the_server_is_made_again(database, sink):
    write(sink, "log", row(0, odometer_m=1))
    database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database.name}' AND pid <> pg_backend_pid()"
    )
    told = write(sink, "log", row(1, odometer_m=2))
    assert told.retries == 1
    same(database, [("log", [row(0, odometer_m=1), row(1, odometer_m=2)])])


def test_a_lock_of_somebody_else_is_waited_for_not_longer_than_said_and_tried_again(database):
    sink = store(database, statement_timeout_s=0.2)
    sink.prepare(TABLES)
    write(sink, "log", row(0, odometer_m=1))
    with database.connect() as somebody, somebody.transaction():
        somebody.execute("SELECT FROM vehicle_state FOR UPDATE")
        done = aside(lambda: write(sink, "log", row(1, odometer_m=2)))
        time.sleep(0.6)
    assert done().retries >= 1
    sink.close()
    same(database, [("log", [row(0, odometer_m=1), row(1, odometer_m=2)])])


def test_patience_ends_with_what_the_database_said_and_no_dead_letter(database):
    sink = store(database, statement_timeout_s=0.1, max_retries=2)
    sink.prepare(TABLES)
    write(sink, "log", row(0, odometer_m=1))
    with database.connect() as somebody, somebody.transaction():
        somebody.execute("SELECT FROM vehicle_state FOR UPDATE")
        with pytest.raises(DependencyFailed, match=r"2 retries.*statement timeout"):
            write(sink, "log", row(1, odometer_m=2))
    sink.close()


def test_a_deadlock_with_another_transaction_is_tried_again(database, sink):
    rows = [row(0, name, name, odometer_m=1) for name in ("V1", "V2")]
    write(sink, "log", *rows)
    later = [row(1, name, name, odometer_m=2) for name in ("V1", "V2")]
    with database.connect() as somebody, somebody.transaction():
        somebody.execute("SET deadlock_timeout = '1h'")
        somebody.execute("SELECT FROM vehicle_state WHERE vehicle_id = 'V2' FOR UPDATE")
        done = aside(lambda: write(sink, "log", *later))
        until(lambda: waiting(database))
        somebody.execute("SELECT FROM vehicle_state WHERE vehicle_id = 'V1' FOR UPDATE")
    assert done().retries >= 1
    same(database, [("log", rows + later)])


def test_writers_of_the_same_vehicles_never_stop_one_another(database, sink):
    """In whatever order their rows come: corrections, which lock more rows, are among them."""
    database.run("ALTER DATABASE " + database.name + " SET deadlock_timeout = '20ms'")
    given = [
        [row(turn, f"V{n}", f"{n:04d}", message_id=f"{w}-{turn}-{n}", odometer_m=w) for n in order]
        for w, order in ((1, range(12)), (2, range(11, -1, -1)))
        for turn in range(15)
    ]
    moved = [
        [one | {"revision": judged(), "vehicle_id": "V0"} for one in rows[3:5]] for rows in given
    ]
    sinks = [store(database) for _ in range(2)]

    def write_all(number):
        own = slice(number * 15, number * 15 + 15)
        told = []
        for first, again in zip(given[own], moved[own], strict=True):
            told += [write(sinks[number], "log", *first), write(sinks[number], "log", *again)]
        return sum(one.retries for one in told)

    done = [aside(lambda number=number: write_all(number)) for number in range(2)]
    assert [one() for one in done] == [0, 0]
    for one in sinks:
        one.close()


NOTE = """
CREATE TABLE noted AS SELECT name FROM pg_prepared_statements WITH NO DATA;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO noted SELECT name FROM pg_prepared_statements; RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON vehicle_state EXECUTE FUNCTION note();
"""


def test_nothing_is_prepared_that_a_pooler_would_look_for_in_another_session(database, sink):
    database.run(NOTE)
    rows = [row(second, odometer_m=second) for second in range(8)]
    for one in rows:
        write(sink, "log", one, one | {"revision": judged()})
    assert database.run("SELECT * FROM noted") == []


def test_a_transaction_leaves_no_timeout_in_a_session_that_is_shared(database):
    own = StateConnection(StateSettings(**SOON, statement_timeout_s=7), database.settings())

    def shown(connection):
        return connection, connection.execute("SHOW statement_timeout").fetchone()

    session, within = own.transact(shown)
    assert (within, shown(session)[1]) == (("7s",), ("0",))
    own.close()


def deprived(database, *statements):
    """A user who may do nothing but what the statements let him."""
    database.run(
        f"CREATE ROLE writer_{database.name} LOGIN PASSWORD 'pw'",
        *(one.format(user=f"writer_{database.name}") for one in statements),
    )
    server = database.server
    return DatabaseSettings(
        conninfo=f"host=127.0.0.1 port={server.port} dbname={database.name} "
        f"user=writer_{database.name}",
        password="env:ODOGRAPH_TEST_WRITER",
    )


def test_a_user_without_the_right_to_write_is_told_which_to_grant(database, sink, monkeypatch):
    monkeypatch.setenv("ODOGRAPH_TEST_WRITER", "pw")
    settings = deprived(database, "GRANT SELECT ON vehicle_state, device_state TO {user}")
    poor = StateStore(StateSettings(**SOON), settings)
    poor.prepare(TABLES)
    with pytest.raises(DependencyFailed, match=r"permission denied.*GRANT SELECT, INSERT, UPDATE"):
        write(poor, "log", row(0, odometer_m=1))
    poor.close()


def test_a_user_who_may_make_nothing_may_write_to_what_is_there(database, sink, monkeypatch):
    monkeypatch.setenv("ODOGRAPH_TEST_WRITER", "pw")
    right = "GRANT SELECT, INSERT, UPDATE ON vehicle_state, device_state TO {user}"
    modest = StateStore(StateSettings(**SOON), deprived(database, right))
    modest.prepare(TABLES)
    assert write(modest, "log", row(0, odometer_m=1)).rows == 1
    modest.close()


def test_tables_that_nobody_can_make_are_named(database, monkeypatch):
    monkeypatch.setenv("ODOGRAPH_TEST_WRITER", "pw")
    poor = StateStore(StateSettings(**SOON), deprived(database))
    with pytest.raises(DependencyFailed, match=r"cannot make the tables.*the right to create"):
        poor.prepare(TABLES)
    poor.close()


def test_a_table_that_was_dropped_stops_the_job_with_what_to_do(database, sink):
    database.run("DROP TABLE vehicle_state")
    with pytest.raises(DependencyFailed, match="odograph database apply"):
        write(sink, "log", row(0, odometer_m=1))
    sink.prepare(TABLES)
    assert write(sink, "log", row(0, odometer_m=1)).rows == 1


def test_a_standby_is_waited_for_until_it_may_be_written(database, sink):
    database.run(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    other = store(database)
    done = aside(lambda: write(other, "log", row(0, odometer_m=1)))
    time.sleep(0.3)
    with psycopg.connect(
        database.server.conninfo, autocommit=True, options="-c default_transaction_read_only=off"
    ) as connection:
        connection.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
    assert done().retries >= 1
    other.close()


def test_a_password_that_is_wrong_is_named_and_not_told(database, tmp_path):
    wrong = tmp_path / "password"
    wrong.write_text("hunter2")
    settings = database.settings().model_copy(update={"password": f"file:{wrong}"})
    sink = StateStore(StateSettings(**SOON | {"max_retries": 1}), settings)
    with pytest.raises(DependencyFailed, match="password authentication failed") as told:
        sink.prepare(TABLES)
    assert "hunter2" not in str(told.value)


def test_the_state_may_lie_in_a_database_of_its_own(postgres, database):
    address, server = database.settings().conninfo, database.server
    own = StateSettings(**SOON, conninfo=address, password=f"file:{server.password_file}")
    sink = StateStore(own, DatabaseSettings(conninfo="host=nowhere.invalid"))
    sink.prepare(TABLES)
    write(sink, "log", row(0, odometer_m=1))
    sink.close()
    same(database, [("log", [row(0, odometer_m=1)])])


def test_a_password_without_an_address_is_refused():
    with pytest.raises(ValueError, match="password without conninfo"):
        StateSettings(password="env:SOME")


def test_a_database_that_takes_no_transactions_is_waited_for_and_no_row_is_at_fault(database, sink):
    """As one does that is about to run out of transaction ids."""
    database.run(
        "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
        "'database is not accepting commands' USING ERRCODE = 'program_limit_exceeded'; END $$"
    )
    database.run("CREATE TRIGGER never BEFORE INSERT ON vehicle_state EXECUTE FUNCTION never()")
    impatient = store(database, max_retries=2)
    with pytest.raises(DependencyFailed, match="not accepting commands"):
        write(impatient, "log", *[row(second, odometer_m=second) for second in range(5)])
    assert database.run("SELECT FROM device_state") == []

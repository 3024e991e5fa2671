"""`odograph stack` as its user sees it, with all its real servers."""

import json
import socket
import subprocess
import sys
import urllib.request

import psutil
import psycopg
import pyarrow.fs
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.settings import secret
from runners.config import load_config
from runners.stack.catalogue import NAMES, free_ports
from runners.stack.processes import answers, free_port, marked, sweep
from tests.support.servers import server_folder

pytestmark = [pytest.mark.servers, pytest.mark.long]


def odograph(*arguments):
    command = [sys.executable, "-m", "runners.cli.main", "stack", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def port_options():
    return [f"--{name}-port={port}" for name, port in free_ports(NAMES).items()]


@pytest.fixture(scope="module")
def up():
    """The data folder of a stack of all servers."""
    with server_folder() as folder:
        data = folder / "data"
        done = odograph("up", "--data", data, "--task-manager-memory", "3072m", *port_options())
        assert done.returncode == 0, done.stdout + done.stderr
        yield data


@pytest.fixture
def config(up):
    return load_config(str(up / "odograph.yaml"))


def pids(data):
    return {process.pid for process in marked(data)}


def test_kafka_takes_topics_and_makes_none_by_itself(config):
    client = AdminClient({"bootstrap.servers": config.kafka.bootstrap})
    client.create_topics([NewTopic("tried", config.topics.partitions, 1)])["tried"].result(30)
    client.list_topics("never-made", timeout=30)
    topics = client.list_topics(timeout=30).topics
    assert len(topics["tried"].partitions) == 4
    assert "never-made" not in topics


def test_the_registry_keeps_a_schema_under_the_url_in_the_settings(config):
    request = urllib.request.Request(
        f"{config.registry.url}/subjects/tried-value/versions",
        json.dumps({"schema": '"string"'}).encode(),
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request) as answer:
        number = json.load(answer)["id"]
    with urllib.request.urlopen(f"{config.registry.url}/schemas/ids/{number}") as answer:
        assert json.load(answer)["schema"] == '"string"'


def test_the_database_lets_in_with_the_password_of_the_settings_and_with_no_other(config):
    database = config.bindings_database
    with psycopg.connect(database.conninfo, password=secret(database.password)) as connection:
        assert connection.execute("select current_database()").fetchone() == ("fleet",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database.conninfo, password="guessed")


def test_secrets_are_readable_by_their_owner_alone(up):
    for name in ("postgres/password", "s3/credentials"):
        assert (up / name).stat().st_mode & 0o777 == 0o600


def test_no_secret_stands_in_the_settings_or_in_a_command_line(up):
    secrets = [(up / "postgres" / "password").read_text().strip()]
    secrets += [
        line.split(" = ")[1]
        for line in (up / "s3" / "credentials").read_text().splitlines()
        if "secret" in line
    ]
    seen = (up / "odograph.yaml").read_text()
    seen += "".join(" ".join(process.cmdline()) for process in marked(up))
    assert [text for text in secrets if text in seen] == []


def test_s3_has_the_buckets_for_archive_and_lake(config, up):
    lines = (up / "s3" / "credentials").read_text().splitlines()[1:]
    allowed = dict(line.split(" = ") for line in lines)
    store = pyarrow.fs.S3FileSystem(
        access_key=allowed["aws_access_key_id"],
        secret_key=allowed["aws_secret_access_key"],
        region=config.s3.region,
        endpoint_override=config.s3.endpoint.removeprefix("http://"),
        scheme="http",
    )
    found = store.get_file_info(["archive", "lake"])
    assert [info.type for info in found] == [pyarrow.fs.FileType.Directory] * 2


def test_flink_has_its_slots_and_says_where_checkpoints_go(config, up):
    with urllib.request.urlopen(f"{config.flink.url}/overview") as answer:
        assert json.load(answer)["slots-total"] == 8
    assert config.flink.checkpoints == (up / "flink" / "checkpoints").as_uri()


def test_every_server_listens_on_loopback_alone(up):
    ours = pids(up)
    places = {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in psutil.net_connections("inet")
        if connection.pid in ours and connection.status == psutil.CONN_LISTEN
    }
    assert places == {"127.0.0.1"}


def test_a_second_up_starts_nothing(up):
    before = pids(up)
    done = odograph("up", "--data", up)
    assert done.returncode == 0
    assert done.stderr.count("is already running") == len(NAMES)
    assert pids(up) == before


def test_status_names_every_server_with_its_address(up, config):
    shown = odograph("status", "--data", up).stdout
    assert shown.count("running") == len(NAMES)
    for address in (config.kafka.bootstrap, config.registry.url, config.flink.url):
        assert address in shown


@pytest.mark.parametrize(
    ("name", "words"),
    [("kafka", "kafka"), ("taskmanager-1", "TaskExecutor"), ("flink", "jobmanager/log")],
)
def test_logs_are_printed_by_server_or_process(up, name, words):
    assert words in odograph("logs", name, "--data", up, "-n", 200).stdout


def test_an_unknown_log_is_answered_with_the_known_names(up):
    done = odograph("logs", "kafak", "--data", up)
    assert done.returncode == 2
    known = ", ".join([*NAMES, "jobmanager", "taskmanager-1"])
    assert f"it has {known}\n" in done.stderr


def test_a_lost_task_manager_is_shown_and_started_again_by_up(up):
    lost = next(p for p in marked(up) if "TaskManagerRunner" in " ".join(p.cmdline()))
    lost.kill()
    lost.wait(30)
    assert "taskmanager-1 missing" in odograph("status", "--data", up).stdout
    kept = pids(up)
    assert odograph("up", "flink", "--data", up).returncode == 0
    assert kept < pids(up)
    assert "missing" not in odograph("status", "--data", up).stdout


def test_one_server_can_be_stopped_and_comes_back_with_its_data(up, config):
    database = config.bindings_database
    password = secret(database.password)
    with psycopg.connect(database.conninfo, password=password) as connection:
        connection.execute("create table kept as select 1 as fact")
    assert odograph("down", "postgres", "--data", up).stdout == "stopped: postgres\n"
    assert odograph("status", "--data", up).stdout.count("running") == len(NAMES) - 1
    port = database.conninfo.partition("port=")[2].split()[0]
    assert odograph("up", "postgres", "--data", up, "--postgres-port", port).returncode == 0
    with psycopg.connect(database.conninfo, password=password) as connection:
        assert connection.execute("select fact from kept").fetchall() == [(1,)]


def test_a_taken_port_is_named_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = odograph("up", "s3", "--data", tmp_path / "data", "--s3-port", port)
    assert done.returncode == 2
    assert f"s3: port {port} is taken by" in done.stderr
    assert "--s3-port" in done.stderr
    assert pids(tmp_path) == set()


def test_down_where_nothing_was_ever_started_is_refused(tmp_path):
    done = odograph("down", "--wipe", "--data", tmp_path)
    assert done.returncode == 2
    assert "no stack was ever started here" in done.stderr


def test_down_leaves_no_process_and_wipe_no_data(tmp_path):
    data = tmp_path / "data"
    (tmp_path / "bystander").touch()
    try:
        for _ in range(2):
            done = odograph("up", "s3", "postgres", "--data", data, *port_options())
            assert done.returncode == 0, done.stderr
            assert odograph("down", "--data", data).stdout == "stopped: s3, postgres\n"
            assert pids(data) == set()
        assert odograph("down", "--data", data).stdout == "nothing was running\n"
        assert (data / "postgres" / "data").is_dir()
        (data / "mine.txt").touch()
        odograph("down", "--wipe", "--data", data)
        assert [path.name for path in data.iterdir()] == ["mine.txt"]
    finally:
        sweep(data)


def test_down_frees_the_ports(tmp_path):
    port = free_port()
    try:
        odograph("up", "s3", "--data", tmp_path / "data", f"--s3-port={port}")
        assert answers(port)
        odograph("down", "--data", tmp_path / "data")
        assert not answers(port)
    finally:
        sweep(tmp_path)

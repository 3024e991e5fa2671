"""A server process outlives its starter, is found again, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from connectors.errors import BadArguments, DependencyFailed
from runners.stack.processes import (
    Process,
    answers,
    free_port,
    marked,
    require_free,
    sweep,
)

pytestmark = pytest.mark.servers

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]
HAVE_CHILD = f"import subprocess, time; subprocess.Popen({SLEEP!r}, start_new_session=True); "
PARENT = [sys.executable, "-c", HAVE_CHILD + "time.sleep(600)"]


@pytest.fixture
def process(tmp_path):
    yield Process("sleeper", tmp_path / "sleeper")
    sweep(tmp_path)


def started(process, command=SLEEP, lines=1):
    process.start(command)
    process.wait(lambda: process.last_words().count("here") >= lines)
    return process.running()


def test_it_is_found_again_by_anyone_who_knows_its_folder(process):
    pid = started(process).pid
    assert Process("sleeper", process.folder).running().pid == pid


def test_it_outlives_the_command_that_started_it(process):
    code = (
        "import sys; from pathlib import Path; from runners.stack.processes import Process; "
        f"Process('sleeper', Path({str(process.folder)!r})).start({SLEEP!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert process.running() is not None
    assert os.getsid(process.running().pid) != os.getsid(0)


def test_what_was_never_started_does_not_run_and_stops_quietly(process):
    assert process.running() is None
    process.stop()


def test_another_process_that_got_its_pid_is_left_alone(process):
    process.folder.mkdir()
    (process.folder / "pid").write_text(f'{{"pid": {os.getpid()}, "created": 1.0}}')
    assert process.running() is None
    process.stop()


def test_a_damaged_pid_file_means_not_running(process):
    process.folder.mkdir()
    (process.folder / "pid").write_text("{")
    assert process.running() is None


def test_stop_leaves_no_child_not_even_one_with_a_session_of_its_own(process):
    started(process, PARENT)
    assert len(list(marked(process.folder))) == 2
    process.stop()
    assert list(marked(process.folder)) == []
    assert process.running() is None


def test_kill_spares_the_children_and_a_later_stop_finds_them(process):
    started(process, PARENT)
    process.kill()
    assert process.running() is None
    assert len(list(marked(process.folder))) == 1
    process.stop()
    assert list(marked(process.folder)) == []


def test_a_process_deaf_to_the_signal_is_killed(process):
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    started(process, [sys.executable, "-c", deaf + SLEEP[2]])
    process.stop(signal.SIGTERM, timeout_s=0.5)
    assert list(marked(process.folder)) == []


def test_a_sweep_spares_what_belongs_to_other_folders(process, tmp_path):
    started(process)
    sweep(tmp_path / "other")
    sweep(tmp_path / "sleep")
    assert process.running() is not None


def test_a_second_start_adds_to_the_log(process):
    started(process)
    process.stop()
    started(process, lines=2)
    assert process.last_words().splitlines() == ["here", "here"]


def test_a_server_that_ends_while_starting_is_reported_with_its_last_words(process):
    process.start([sys.executable, "-c", "raise SystemExit('no such zone')"])
    with pytest.raises(DependencyFailed, match=r"sleeper ended while starting(.|\n)*no such zone"):
        process.wait(lambda: False, 60)


def test_a_server_that_never_gets_healthy_is_reported_with_its_log(process):
    started(process)
    with pytest.raises(DependencyFailed, match=r"not healthy after 0\.2 s(.|\n)*here"):
        process.wait(lambda: False, 0.2)


def test_a_taken_port_is_named_with_who_has_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        name = psutil.Process().name()
        with pytest.raises(BadArguments, match=rf"kafka: port {port} is taken by {name} \(pid"):
            require_free("kafka", port - 1, 2)
        assert answers(port)


def test_nobody_is_named_who_has_a_taken_port_where_we_may_not_see_them(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        hidden = [one._replace(pid=None) for one in psutil.net_connections("tcp")]
        monkeypatch.setattr(psutil, "net_connections", lambda kind: hidden)
        with pytest.raises(BadArguments, match=rf"kafka: port {port} is taken; stop"):
            require_free("kafka", port, 1)


def test_a_free_port_is_free_with_its_neighbours():
    first = free_port(3)
    require_free("flink", first, 3)
    assert not answers(first)

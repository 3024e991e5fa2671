"""Server processes that outlive the command that started them: each has a folder with log and pid
file, a session of its own, and a mark in its environment by which its children are found."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from connectors.errors import BadArguments, DependencyFailed

MARK = "ODOGRAPH_STACK"
LOOPBACK = "127.0.0.1"
EPHEMERAL = 32768


@dataclass(frozen=True)
class Process:
    """One server process; `folder` holds `pid`, `log` and whatever the server keeps there."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        """The file with the output of the process, of all starts one after another."""
        return self.folder / "log"

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Run `command` detached from this process: it goes on until `stop` or `kill`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        marked = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}
        marked |= {**(env or {}), MARK: str(self.folder)}
        with self.log.open("ab") as output:
            child = subprocess.Popen(
                command,
                env=marked,
                cwd=cwd or self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        created = psutil.Process(child.pid).create_time()
        (self.folder / "pid").write_text(json.dumps({"pid": child.pid, "created": created}))

    def running(self) -> psutil.Process | None:
        """The process, or None when it was never started or has ended."""
        try:
            noted = json.loads((self.folder / "pid").read_text())
            process = psutil.Process(noted["pid"])
            same = abs(process.create_time() - noted["created"]) < 2
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
            return None

    def kill(self) -> None:
        """Kill -9, as when a machine loses power; children of the process go on."""
        process = self.running()
        if process is not None:
            process.kill()
            process.wait()

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout_s: float = 30) -> None:
        """Send it the signal `how`, kill it after `timeout_s`, and kill the processes it leaves."""
        process = self.running()
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(timeout_s)
            except psutil.TimeoutExpired:
                self.kill()
        sweep(self.folder)
        (self.folder / "pid").unlink(missing_ok=True)

    def wait(self, healthy: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until `healthy()`. Raises DependencyFailed with the end of the log after
        `timeout_s`, or when the process ends."""
        deadline = time.monotonic() + timeout_s
        while not healthy():
            self.need()
            if time.monotonic() > deadline:
                raise DependencyFailed(
                    f"{self.name} is not healthy after {timeout_s:g} s; "
                    f"the end of {self.log}:\n{self.last_words()}"
                )
            time.sleep(0.1)

    def need(self) -> None:
        """Raises DependencyFailed with the end of the log when the process does not run."""
        if self.running() is None:
            raise DependencyFailed(
                f"{self.name} ended while starting; the end of {self.log}:\n{self.last_words()}"
            )

    def last_words(self, lines: int = 20) -> str:
        """The last lines of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def marked(folder: Path) -> Iterator[psutil.Process]:
    """Every living process that was started for `folder` or a folder in it, by any command."""
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK)
            ours = mark is not None and Path(mark).is_relative_to(folder)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue


def sweep(folder: Path) -> None:
    """Kill every process started for `folder`, children included."""
    processes = list(marked(folder))
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)


def answers(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


def require_free(server: str, first: int, span: int) -> None:
    """Raises BadArguments, with the port and the process that has it, where one of the `span` ports
    from `first` on is taken."""
    for port in range(first, first + span):
        if not _free(port):
            raise BadArguments(
                f"{server}: port {port} is taken{_by_whom(port)}; stop that, or choose another "
                f"with --{server}-port (it needs {span} from there on)"
            )


def free_port(span: int = 1) -> int:
    """The first of `span` neighbouring free ports. It is below the ports that the kernel gives to
    clients, so that a server can be restarted on it. Raises DependencyFailed."""
    for _ in range(1000):
        first = random.SystemRandom().randrange(20000, EPHEMERAL - span)
        if all(_free(port) for port in range(first, first + span)):
            return first
    raise DependencyFailed(f"no {span} neighbouring free ports between 20000 and {EPHEMERAL}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _by_whom(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr and connection.laddr.port == port
            # without a right to look at it, it has no pid, and Process(None) would be ourselves
            if here and connection.status == psutil.CONN_LISTEN and connection.pid is not None:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError, TypeError):
        pass
    return ""

"""A real S3 server for tests: versitygw, started on a free loopback port."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class S3Server:
    """Where the server listens (`http://127.0.0.1:port`) and who may use it."""

    endpoint: str
    key: str
    secret: str
    region: str = "us-east-1"


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run an empty S3 server; it and its data are gone on leaving.

    Raises FileNotFoundError where `make test` has not built the server yet,
    RuntimeError where it ends early, TimeoutError where it is not healthy in 30 s.
    """
    program = _program()
    with tempfile.TemporaryDirectory(prefix="s3-") as folder:
        server = S3Server(
            f"http://127.0.0.1:{_free_port()}", secrets.token_hex(8), secrets.token_hex(16)
        )
        log = Path(folder) / "server.log"
        process = _start(program, server, Path(folder), log)
        try:
            _wait_healthy(process, server, log)
            yield server
        finally:
            _stop(process)


def _program() -> str:
    beside_python = Path(sys.executable).parent
    search = os.pathsep.join([str(beside_python), os.environ.get("PATH", os.defpath)])
    program = shutil.which("versitygw", path=search)
    if program is None:
        raise FileNotFoundError("no versitygw beside this Python: run `make test` once")
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(program: str, server: S3Server, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    for name in ("data", "attributes"):
        (folder / name).mkdir()
    listen = server.endpoint.removeprefix("http://")
    command = [program, "--port", listen, "--access", server.key, "--secret", server.secret]
    command += ["--region", server.region, "--health", "/healthz", "--quiet"]
    command += ["posix", "--sidecar", str(folder / "attributes"), str(folder / "data")]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"PATH": os.defpath, "HOME": str(folder)},
            start_new_session=True,
        )


def _wait_healthy(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            words = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"S3 server ended with {process.returncode}: {words}")
        try:
            with urllib.request.urlopen(f"{server.endpoint}/healthz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(f"S3 server not healthy after {START_TIMEOUT_S:g} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

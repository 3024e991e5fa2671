"""The servers of the stack by name, and the note in a data folder of those started there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from connectors.errors import BadArguments
from runners.stack.faults.stack_proxies import BEFORE, FaultProxies
from runners.stack.processes import Process, free_port
from runners.stack.servers.bigquery import BigQuery
from runners.stack.servers.elasticsearch import Elasticsearch
from runners.stack.servers.flink import Flink
from runners.stack.servers.kafka import Kafka
from runners.stack.servers.postgres import Postgres
from runners.stack.servers.registry import Registry
from runners.stack.servers.s3 import S3

NOTE = "stack.json"


class Server(Protocol):
    """The methods of every server; each is a frozen dataclass of a folder, a cache and a port.

    All methods raise DependencyFailed when the server or a client fails; `start` raises
    BadArguments when a port is taken.
    """

    name: ClassVar[str]
    span: ClassVar[int]

    @property
    def folder(self) -> Path:
        """Its data, log and pid file."""

    @property
    def port(self) -> int:
        """The first of `span` ports it uses."""

    @property
    def address(self) -> str:
        """The URL, host:port or connection string for its clients."""

    @property
    def processes(self) -> list[Process]:
        """Its processes."""

    def fetch(self) -> Path:
        """Fetch its program once into the cache; returns the folder or file."""

    def start(self) -> None:
        """Start it, with the data of earlier starts."""

    def ready(self, timeout_s: float = 60) -> None:
        """Wait until it answers."""

    def stop(self) -> None:
        """Shut it down."""

    def kill(self) -> None:
        """Kill it (SIGKILL)."""


PORTS = {
    "kafka": 9092,
    "registry": 8085,
    "postgres": 5432,
    "s3": 7070,
    "bigquery": 9050,
    "elasticsearch": 9200,
    "faults": 9300,
    "flink": 8081,
}
NAMES = tuple(PORTS)
"""All servers, in the order in which they start."""
_PLAIN: dict[str, type[Kafka | Registry | Postgres | S3 | BigQuery | Elasticsearch]] = {
    "kafka": Kafka,
    "registry": Registry,
    "postgres": Postgres,
    "s3": S3,
    "bigquery": BigQuery,
    "elasticsearch": Elasticsearch,
}
"""The servers that need a folder, a cache and a port, and nothing else."""
_SPANS = {
    **{name: kind.span for name, kind in _PLAIN.items()},
    "faults": FaultProxies.span,
    "flink": Flink.span,
}


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """A free first port for each of these servers."""
    return {name: free_port(_SPANS[name]) for name in names}


@dataclass(frozen=True)
class Choice:
    """Which servers to start, on which ports, and the size and options of Flink."""

    ports: Mapping[str, int] = field(default_factory=dict)
    task_managers: int = 1
    slots: int = 4
    memory: str = "4096m"
    options: Mapping[str, str] = field(default_factory=dict)

    def note(self, data: Path) -> None:
        """Write it to the data folder."""
        data.mkdir(parents=True, exist_ok=True)
        (data / NOTE).write_text(json.dumps(asdict(self), indent=1) + "\n")


def noted(data: Path) -> Choice | None:
    """The choice that was started in this data folder; None where none was. Raises BadArguments."""
    try:
        note: dict[str, Any] = json.loads((data / NOTE).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadArguments(f"{data / NOTE}: not the note of a stack: {error}") from None
    return Choice(**note)


def build(data: Path, cache: Path, choice: Choice) -> dict[str, Server]:
    """The chosen servers by name, in the order in which they start. Nothing is started."""
    built: dict[str, Server] = {
        name: make(data / name, cache, choice.ports[name])
        for name, make in _PLAIN.items()
        if name in choice.ports
    }
    if "faults" in choice.ports:
        behind = {name: built[name].address for name in BEFORE if name in built}
        built["faults"] = FaultProxies(data / "faults", cache, choice.ports["faults"], behind)
    if "flink" in choice.ports:
        credentials = {"AWS_SHARED_CREDENTIALS_FILE": str(data / "s3" / "credentials")}
        built["flink"] = Flink(
            data / "flink",
            cache,
            choice.ports["flink"],
            task_managers=choice.task_managers,
            slots=choice.slots,
            memory=choice.memory,
            options=choice.options,
            env=credentials if "s3" in built else {},
        )
    return built

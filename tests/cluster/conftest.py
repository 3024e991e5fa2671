"""One stack of real servers for all live tests, started once a run."""

from __future__ import annotations

import pytest

from runners.artefacts import java_runtime
from runners.artefacts.fetch import default_cache
from runners.stack.catalogue import Choice, free_ports
from runners.stack.stack import down, up
from tests.cluster.fleet import Fleet
from tests.support.servers import server_folder

FLINK = {
    "heartbeat.timeout": "8000",
    "heartbeat.interval": "2000",
    "env.java.opts.taskmanager": java_runtime.QUICK,
}
"""A lost TaskManager is noticed soon, and jobs of seconds are not compiled for hours."""


@pytest.fixture(scope="session")
def servers():
    """Kafka, registry, Postgres, S3 and a Flink cluster, by name."""
    ports = free_ports(["kafka", "registry", "postgres", "s3", "flink"])
    with server_folder() as data:
        try:
            wanted = Choice(ports=ports, slots=8, memory="5120m", options=FLINK)
            yield up(data, default_cache(), wanted)
        finally:
            down(data, default_cache(), wipe=True)


@pytest.fixture
def fleet(servers, tmp_path, request):
    """Fresh topics, registered schemas, no jobs; jobs are cancelled at the end. The marker
    `settings` changes sections of the settings file."""
    changes = {}
    for mark in request.node.iter_markers("settings"):
        changes |= mark.kwargs
    with Fleet.fresh(servers, tmp_path, **changes) as one:
        yield one

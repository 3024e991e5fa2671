"""A cluster that cannot start says which of its processes ended, and why."""

import pytest

from connectors.errors import DependencyFailed
from runners.stack.processes import free_port
from runners.stack.servers.flink import Flink
from tests.support.servers import CACHE

pytestmark = pytest.mark.servers


def test_a_task_manager_whose_memory_is_too_small_is_named_at_once(tmp_path):
    server = Flink(tmp_path / "flink", CACHE, free_port(Flink.span), memory="600m")
    try:
        server.start()
        with pytest.raises(DependencyFailed, match="taskmanager-1 ended while") as failed:
            server.ready(timeout_s=1000)
        assert "TaskManager memory configuration failed" in str(failed.value)
    finally:
        server.stop()

"""A real S3 server for tests that want one to themselves: versitygw on a free loopback port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runners.stack.processes import free_port
from runners.stack.servers.s3 import REGION, S3
from tests.support.servers import CACHE, running, server_folder


@dataclass(frozen=True)
class S3Server:
    """Where the server listens (`http://127.0.0.1:port`) and who may use it."""

    endpoint: str
    key: str
    secret: str
    region: str = REGION


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run an empty S3 server; it and its data are gone on leaving."""
    with server_folder() as folder, running(S3(folder / "s3", CACHE, free_port())) as server:
        allowed = server.environment
        key, secret = allowed["AWS_ACCESS_KEY_ID"], allowed["AWS_SECRET_ACCESS_KEY"]
        yield S3Server(server.address, key, secret)

"""Options that commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from runners.config import Config
from runners.flink.rest import Cluster

config_option = click.option(
    "--config", "config_path", required=True, type=click.Path(dir_okay=False), help="YAML settings."
)

cluster_option = click.option(
    "--flink", "url", help="URL of the cluster's REST interface [flink.url]."
)

parallelism_option = click.option(
    "--parallelism", default=1, show_default=True, type=click.IntRange(min=1), help="Workers."
)

python_option = click.option(
    "--python", help="Path of Python on the workers [that of the client that has PyFlink]."
)


def as_one(kind: type[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command take those of its options that are fields of the dataclass `kind` together, as
    one positional argument; several follow in the order of their decorators."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def call(*groups: Any, **options: Any) -> Any:
            own = {field.name: options.pop(field.name) for field in fields(kind)}
            return command(*groups, kind(**own), **options)

        return call

    return decorate


def cluster_at(config: Config, url: str | None) -> Cluster:
    """The cluster at `url`, else that of the settings."""
    return Cluster(url or config.flink.url)

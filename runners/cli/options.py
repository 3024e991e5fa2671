"""Options that commands share."""

from __future__ import annotations

import click

from runners.config import Config
from runners.flink.rest import Cluster

settings = click.option(
    "--config", "config_path", required=True, type=click.Path(dir_okay=False), help="YAML settings."
)


at = click.option("--flink", "url", help="URL of the cluster's REST interface [flink.url].")


workers = click.option(
    "--parallelism", default=1, show_default=True, type=click.IntRange(min=1), help="Workers."
)


worker_python = click.option(
    "--python", help="Path of Python on the workers [that of the client that has PyFlink]."
)


def cluster_at(config: Config, url: str | None) -> Cluster:
    return Cluster(url or config.flink.url)

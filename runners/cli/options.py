"""Options that commands share."""

from __future__ import annotations

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


def cluster_at(config: Config, url: str | None) -> Cluster:
    """The cluster at `url`, else that of the settings."""
    return Cluster(url or config.flink.url)

"""The `odograph` command."""

from __future__ import annotations

import sys
import traceback

import click

from connectors.errors import BadSettings, DependencyFailed
from runners.cli.lazy_group import LazyGroup

WRONG, FAILED, BUG, INTERRUPTED = 2, 3, 70, 130
COMMANDS = {
    "backfill": "runners.cli.backfill",
    "bigquery": "runners.cli.bigquery",
    "config": "runners.cli.config",
    "database": "runners.cli.database",
    "elasticsearch": "runners.cli.elasticsearch",
    "jobs": "runners.cli.jobs",
    "lake": "runners.cli.lake",
    "schemas": "runners.cli.schemas",
    "simulate": "runners.cli.simulate",
    "stack": "runners.cli.stack",
    "status": "runners.cli.status",
    "stores": "runners.cli.stores",
    "submit": "runners.cli.submit",
    "topics": "runners.cli.topics",
}
"""The module of each command."""


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="odograph")
def odograph() -> None:
    """Messages of vehicle terminals in, facts about vehicles out.

    Try it: `odograph simulate --out fleet --vehicles 20 --hours 6 --seed 1`, then `odograph
    backfill --archive fleet/archive --bindings fleet/device_binding.csv --lake lake`.

    Exit codes: 0 done; 1 the ledger does not balance, or (status) a job does not run or records
    wait too long; 2 wrong arguments, settings or schemas; 3 a dependency failed (bucket, file
    system, brokers, cluster), run it again; 4 topics differ from what is declared; 70 a bug; 130
    interrupted.
    """


def main() -> None:
    """Run `odograph`; expected failures become messages and exit codes."""
    try:
        odograph(standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what is written is whole, run it again to finish", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG)
    except BadSettings as error:
        click.echo(str(error), err=True)
        sys.exit(WRONG)
    except DependencyFailed as error:
        click.echo(str(error), err=True)
        sys.exit(FAILED)
    except Exception:
        traceback.print_exc()
        click.echo("this is a bug in odograph; what is written is whole", err=True)
        sys.exit(BUG)


if __name__ == "__main__":
    main()

"""`odograph simulate`: play a fleet into an archive."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from runners.screen import Instant, bar, zoned


@click.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--vehicles", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--hours", default=24.0, show_default=True, type=click.FloatRange(min=0.01))
@click.option("--seed", default=1, show_default=True, type=int, help="Same seed, same bytes.")
@click.option("--misbehave", default="", help="`all`, or some of M01,M02,… (docs/rules.md).")
@click.option("--start", type=Instant(), help="First moment [2024-01-15T00:00+09:00].")
@click.option("--partitions", default=4, show_default=True, type=click.IntRange(min=1))
def simulate(
    out: Path,
    vehicles: int,
    hours: float,
    seed: int,
    misbehave: str,
    start: datetime | None,
    partitions: int,
) -> None:
    """Write an archive of terminal messages, the bindings, and what is really true.

    OUT/archive/topics/… is what the old sink would have written, OUT/device_binding.csv says which
    terminal sat in which vehicle, OUT/truth.json what a correct pipeline must find.
    """
    from runners.simulation import MISBEHAVIOURS
    from runners.simulation import simulate as run

    chosen = frozenset(filter(None, (name.strip().upper() for name in misbehave.split(","))))
    if "ALL" in chosen:
        chosen = frozenset(MISBEHAVIOURS)
    unknown = sorted(chosen - set(MISBEHAVIOURS))
    if unknown:
        known = ", ".join(sorted(MISBEHAVIOURS))
        raise click.BadParameter(f"{unknown[0]} is none of {known}", param_hint="--misbehave")
    with bar("simulating", 1) as advance:
        summary = run(
            out,
            vehicles,
            hours,
            seed,
            chosen,
            zoned(start, "Asia/Seoul"),
            partitions,
            lambda fraction: advance(fraction),
        )
    click.echo(
        f"{summary.terminals:,} terminals sent {summary.uploads:,} uploads with "
        f"{summary.samples:,} samples; {summary.dead:,} of them no pipeline can read, "
        f"{summary.duplicates:,} sent again"
    )
    click.echo(f"archive   {out}/archive\nbindings  {out}/device_binding.csv")
    click.echo(f"truth     {out}/truth.json")

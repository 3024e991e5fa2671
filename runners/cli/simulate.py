"""`odograph simulate`: play a fleet into an archive, or into Kafka, or both."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from rich.console import Console
from rich.table import Table

from connectors.errors import BadArguments
from connectors.kafka.topics import DEVICE_TOPICS
from runners.cli.options import as_one
from runners.cli.terminal import Instant, zoned
from runners.config import Config, load_config
from runners.progress import bar

if TYPE_CHECKING:
    from runners.simulation.kafka import Fed, Feeder, Progress, Record
    from runners.simulation.simulator import Scenario, Summary

    Convert = Callable[[Iterable[Record]], Iterable[Record]]

NOW = "now"
HOUR_MS = 3_600_000
LOOP_BEGINS = timedelta(hours=24)


class Start(Instant):
    """As `Instant`, where `now` stays the text: it depends on other options."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return NOW if value == NOW else super().convert(value, param, ctx)


@dataclass(frozen=True)
class FleetOptions:
    """The fleet and what it does, as the command line says it."""

    vehicles: int
    hours: float
    seed: int
    misbehave: str
    start: datetime | str | None
    partitions: int


@dataclass(frozen=True)
class FeedOptions:
    """Where to on Kafka, as what and how fast."""

    bootstrap: str | None
    config_path: str | None
    form: str | None
    speed: float | None
    rate: float | None
    loop: bool
    seconds: float | None

    def config(self) -> Config:
        """The settings, with --kafka for its brokers. Raises BadConfig."""
        config = load_config(self.config_path)
        if not self.bootstrap:
            return config
        kafka = config.kafka.model_copy(update={"bootstrap": self.bootstrap})
        return config.model_copy(update={"kafka": kafka})


@click.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="For archive, bindings, truth."
)
@click.option(
    "--vehicles",
    default=20,
    show_default=True,
    type=click.IntRange(min=1),
    help="As many, or more where --misbehave needs terminals of its own.",
)
@click.option(
    "--hours",
    default=24.0,
    show_default=True,
    type=click.FloatRange(min=0.01),
    help="How long they are on the road.",
)
@click.option("--seed", default=1, show_default=True, type=int, help="Same seed, same bytes.")
@click.option("--misbehave", default="", help="`all`, or some of M01,M02,… (docs/rules.md).")
@click.option(
    "--start", type=Start(), help="First moment in Asia/Seoul, or now [2024-01-15T00:00]."
)
@click.option(
    "--partitions", default=4, help="Of each topic in the archive [4].", type=click.IntRange(min=1)
)
@click.option("--kafka", "bootstrap", help="Send into the device topics at host:port,….")
@click.option("--config", "config_path", type=click.Path(dir_okay=False), help="YAML settings.")
@click.option(
    "--format", "form", type=click.Choice(["json", "avro"]), help="Of messages on Kafka [json]."
)
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), help="Send at so many times real time."
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Send so many uploads a second."
)
@click.option("--loop", is_flag=True, help="Send the run again and again, each time later.")
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="End --loop after so many seconds.",
)
@as_one(FleetOptions)
@as_one(FeedOptions)
def simulate(fleet: FleetOptions, feed: FeedOptions, out: Path | None) -> None:
    """Play a fleet: write an archive of terminal messages, or send them into Kafka, or both.

    OUT/archive/topics/… is what the old sink would have written, OUT/device_binding.csv says which
    terminal sat in which vehicle, OUT/truth.json what a correct pipeline must find.

    With --kafka (or kafka.bootstrap in the settings) every upload goes to its device topic, keyed
    by its terminal, stamped with its arrival: as fast as Kafka takes them, or at --speed or --rate.
    --start now lets the last upload arrive when it is sent, so that nothing comes from the future.
    --loop is for load: it sends what it has simulated over and over, each time as later uploads.
    """
    from runners.simulation.simulator import Scenario
    from runners.simulation.simulator import simulate as run

    config = feed.config()
    feeding = config.kafka.bootstrap is not None
    _check(out, feeding, feed)
    scenario = Scenario(
        fleet.vehicles,
        fleet.hours,
        fleet.seed,
        _misbehaviours(fleet.misbehave),
        _first_moment(fleet.start, fleet.hours, feed.speed, feed.loop),
        fleet.partitions,
    )
    play = functools.partial(run, out, scenario)
    if not feeding:
        with bar("simulating", 1) as advance:
            summary = play(progress=advance)
        _print_summary(summary)
        return
    from runners.simulation.kafka import Feeder, Pace, as_sent

    with bar("sending", 1) as advance:
        feeder = Feeder(config.kafka, Pace(feed.rate, feed.speed), _progress_of(advance, scenario))
        feeder.check_topics(DEVICE_TOPICS)
        convert = _converter(feed.form, config)
        if feed.loop:
            _send_in_a_loop(play, feeder, convert, scenario.hours, feed.seconds)
        else:
            _print_summary(
                play(send=lambda lines: feeder.send(convert(as_sent(lines)))), archived=False
            )
        fed = feeder.finish()
    show(fed, str(config.kafka.bootstrap))


def _check(out: Path | None, feeding: bool, feed: FeedOptions) -> None:
    only_for_kafka = {
        "--format": feed.form,
        "--speed": feed.speed,
        "--rate": feed.rate,
        "--loop": feed.loop,
    }
    options = [name for name, value in only_for_kafka.items() if value]
    if options and not feeding:
        raise BadArguments(f"{options[0]}: only with --kafka, or with kafka.bootstrap in --config")
    if out is None and not feeding:
        raise BadArguments("neither --out nor --kafka: say where the uploads go")
    if feed.speed and feed.rate:
        raise BadArguments(f"--speed {feed.speed} and --rate {feed.rate}: give one of them")
    if feed.loop and feed.speed:
        raise BadArguments(f"--speed {feed.speed} and --loop: a loop goes at a --rate")
    if feed.seconds and not feed.loop:
        raise BadArguments(f"--for {feed.seconds}: it ends a --loop, and there is none")


def _misbehaviours(text: str) -> frozenset[str]:
    from runners.simulation.misbehaviours import MISBEHAVIOURS

    chosen = frozenset(filter(None, (name.strip().upper() for name in text.split(","))))
    if "ALL" in chosen:
        chosen = frozenset(MISBEHAVIOURS)
    unknown = sorted(chosen - set(MISBEHAVIOURS))
    if unknown:
        known = ", ".join(sorted(MISBEHAVIOURS))
        raise click.BadParameter(f"{unknown[0]} is none of {known}", param_hint="--misbehave")
    return chosen


def _first_moment(
    start: datetime | str | None, hours: float, speed: float | None, loop: bool
) -> datetime:
    """The first simulated moment; with `now`, so that the last upload is sent when it arrives."""
    from runners.simulation.simulator import FIRST_HOUR

    if start is None:
        return FIRST_HOUR
    if isinstance(start, datetime):
        return cast(datetime, zoned(start, "Asia/Seoul"))
    length = timedelta(hours=hours)
    ahead = LOOP_BEGINS if loop else length - length / max(speed, 1) if speed else length
    return datetime.now(UTC) - ahead


def _progress_of(advance: Callable[[float], None], scenario: Scenario) -> Progress:
    """Advances a progress bar, up to five times a second, to the share of the run that was sent."""
    begins, reported = scenario.start.timestamp() * 1000, 0.0

    def progress(_: int, arrival_ms: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > 0.2:
            reported = time.monotonic()
            advance((arrival_ms - begins) / (scenario.hours * HOUR_MS) % 1)

    return progress


def _converter(form: str | None, config: Config) -> Convert:
    if form != "avro":
        return iter
    from connectors.schema_registry.lookup import ids
    from runners.simulation.message_formats import AvroWriter

    if config.registry.url is None:
        raise BadArguments("--format avro: its schemas are in a registry; set registry.url")
    known = ids(config.registry, DEVICE_TOPICS)
    return AvroWriter({topic.partition("-")[2]: known[topic] for topic in known}).records


def _send_in_a_loop(
    play: Callable[..., Summary],
    feeder: Feeder,
    convert: Convert,
    hours: float,
    seconds: float | None,
) -> None:
    """Send the run again and again for `seconds`, or until Ctrl-C, which is no error here."""
    from runners.simulation.kafka import as_sent
    from runners.simulation.load_loop import Loop

    records: list[Record] = []
    play(send=lambda lines: records.extend(as_sent(lines)))
    loop = Loop(records, round(hours * HOUR_MS))
    end = time.monotonic() + seconds if seconds else math.inf
    with suppress(KeyboardInterrupt):
        for again in loop.passes():
            for part in again:
                feeder.send(convert(part))
                if time.monotonic() >= end:
                    return


def _print_summary(summary: Summary, archived: bool = True) -> None:
    """Print counts of the run. Uploads that the old sink wrote twice into the archive were sent
    once to Kafka."""
    copied = 0 if archived else summary.copied
    click.echo(
        f"{summary.terminals:,} terminals sent {summary.uploads - copied:,} uploads with "
        f"{summary.samples:,} samples; {summary.dead:,} of them no pipeline can read, "
        f"{summary.duplicates - copied:,} sent again"
    )
    if summary.out is not None:
        click.echo(f"archive   {summary.out}/archive\nbindings  {summary.out}/device_binding.csv")
        click.echo(f"truth     {summary.out}/truth.json")


def show(fed: Fed, where: str) -> None:
    """Print how much Kafka acknowledged, by topic."""
    table = Table(title=f"Acknowledged by Kafka at {where}")
    for name in ("topic", "records", "MB", "records/s", "MB/s"):
        table.add_column(name, justify="left" if name == "topic" else "right")
    seconds = fed.seconds or 1.0
    rows = [(name, fed.records[name], fed.bytes[name]) for name in sorted(fed.records)]
    for name, records, size in [*rows, ("total", fed.records.total(), fed.bytes.total())]:
        megabytes = size / 1e6
        rates = (f"{records / seconds:,.0f}", f"{megabytes / seconds:,.1f}")
        table.add_row(name, f"{records:,}", f"{megabytes:,.1f}", *rates)
    Console(width=None if sys.stdout.isatty() else 100).print(table)

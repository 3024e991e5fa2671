"""The Java side of the live jobs as a process to ask (`Model.java` of its tests)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from runners.artefacts import java_runtime
from tests.repository.files import ROOT

BUILT = ROOT / "pipelines" / "live" / "flink" / "java" / "target"


class Model:
    """One JVM: its constants, and a `TerminalUploads` operator that lives as long as it does.

    Every terminal asked about should be a new one; `now` only grows.
    """

    def __init__(self, keep_ms: int, debounce_ms: int, reboot_ms: int) -> None:
        classpath = BUILT / "test-classpath"
        if not classpath.exists():
            raise FileNotFoundError(f"{classpath} is missing: run `make jar`, which builds it")
        home = os.environ.get("JAVA_HOME")
        folders = [str(BUILT / "test-classes"), str(BUILT / "classes")]
        self.process = subprocess.Popen(
            [
                f"{home}/bin/java" if home else "java",
                *(*java_runtime.LIGHT, "-Xmx512m"),
                *("--add-opens", "java.base/java.util=ALL-UNNAMED"),
                *("-cp", os.pathsep.join([*folders, classpath.read_text()])),
                "odograph.flink.Model",
                *(str(ms) for ms in (keep_ms, debounce_ms, reboot_ms)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self.constants = {}
        while line := self._line().strip():
            name, _, value = line.partition("\t")
            self.constants[name] = value

    def _line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the model ended with {self.process.wait()}; see its stderr")
        return line

    def dossier(self, now_ms: int, *upload: object) -> Sequence[int] | None:
        """Offsets in the dossier that went on because of an upload; None when it was quiet."""
        values = ("" if value is None else str(value) for value in (now_ms, *upload))
        self.process.stdin.write("\t".join(values) + "\n")
        self.process.stdin.flush()
        answer = self._line().strip()
        return None if answer == "quiet" else [int(offset) for offset in answer.split()]

    def close(self) -> None:
        """End the JVM."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

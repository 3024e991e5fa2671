"""Builds Elasticsearch for the stack: the distribution from Maven, adapted to the Java runtime of
the stack, and a small plugin with parts that it lacks and tests need.

The entitlement rules of the distribution name two tools of a full JDK, jlink and the debugger,
which plugins must not use. The runtime has neither, and Java lets no other module have their
modules' names. So the entitlement library is changed to other names, and modules with those names
are put beside it.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from runners.artefacts import java_runtime
from runners.artefacts.fetch import PINS, kept, maven_archive, maven_file, run

VERSION = "9.3.2"
COORDINATES = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"
COMPILER = "org.eclipse.jdt:ecj:3.40.0:jar"
SOURCES = PINS / "elasticsearch"
ABSENT_TOOLS = ("Jlink", "Main", "VirtualMachineManager", "VirtualMachineManagerImpl")
RENAMED = {b"jdk.jlink": b"jdk.jlinx", b"jdk.jdi": b"jdk.jdx"}
PLUGIN = "absent-parts"
DESCRIPTOR = f"""\
description=What the distribution lacks that tests need
version=1
name={PLUGIN}
classname=odograph.AbsentParts
java.version=21
elasticsearch.version={VERSION}
"""


def fetch(cache: Path) -> Path:
    """Home of the distribution, fetched once into `cache`; the plugin is in its `plugins`."""
    runtime = java_runtime.fetch(cache)
    place = kept(cache, f"elasticsearch-{VERSION}", lambda folder: _make(folder, runtime))
    return place / f"elasticsearch-{VERSION}"


def _make(folder: Path, runtime: Path) -> None:
    maven_archive(folder, COORDINATES, PINS / "elasticsearch.sha256")
    home = folder / f"elasticsearch-{VERSION}"
    libraries = home / "lib"
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        (Path(temporary) / "compiler").mkdir()
        compiler = maven_file(Path(temporary) / "compiler", COMPILER, PINS / "ecj.sha256")
        command = [str(runtime / "bin" / "java"), "-jar", str(compiler), "-21", "-proc:none"]
        command += ["-nowarn", "-cp", ":".join(map(str, sorted(libraries.glob("*.jar"))))]
        tools, parts = Path(temporary) / "tools", Path(temporary) / "parts"
        for target, names in ((tools, ABSENT_TOOLS), (parts, ("AbsentParts",))):
            sources = [str(SOURCES / f"{name}.java") for name in names]
            run([*command, "-d", str(target), *sources], f"{names} could not be compiled")
        (plugin := home / "plugins" / PLUGIN).mkdir(parents=True)
        (plugin / "plugin-descriptor.properties").write_text(DESCRIPTOR)
        _jar(plugin / f"{PLUGIN}.jar", parts)
        (nothing := Path(temporary) / "nothing").mkdir()
        _jar(libraries / "absent-tools.jar", tools, "jdk.jlinx")
        _jar(libraries / "absent-debugger.jar", nothing, "jdk.jdx")
    _rename(libraries / f"elasticsearch-entitlement-{VERSION}.jar")


def _jar(path: Path, classes: Path, module: str = "") -> None:
    manifest = "Manifest-Version: 1.0\r\n"
    manifest += f"Automatic-Module-Name: {module}\r\n" if module else ""
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", f"{manifest}\r\n")
        for file in sorted(classes.rglob("*.class")):
            jar.write(file, str(file.relative_to(classes)))


def _rename(library: Path) -> None:
    with zipfile.ZipFile(library) as jar:
        members = [(member, jar.read(member)) for member in jar.infolist()]
    with zipfile.ZipFile(library, "w", zipfile.ZIP_DEFLATED) as jar:
        for member, content in members:
            if member.filename == "module-info.class":
                for name, other in RENAMED.items():
                    content = content.replace(name, other)
            jar.writestr(member, content)

"""What the documents promise exists, and no file knows the machine it was written on."""

import ast
import re

import click
import pytest

from runners.cli.main import odograph
from tests.repository.files import PACKAGES, ROOT, files

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "bench" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
MAKE_COMMAND = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
MACHINE_PATH = re.compile(
    rb"(?<![\w.$}~*-])/(?:home|root|work|tmp|mnt|opt|Users|var/folders)/[\w.-]|[A-Z]:\\\\Users"
)


FOLDERS = "|".join((*PACKAGES, "bench", "docs", "notebooks", "tests"))
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(rf"(?:{FOLDERS})/[\w./<>*{{}}-]*")
DOTTED = re.compile(rf"(?:{FOLDERS})(?:\.[A-Za-z_]\w*)+")
FILE_NAME = re.compile(r"[\w*]*\w\.(?:avsc|java|py|sql)")
TEST_NAME = re.compile(r"test_\w+")
FILES = list(files())
TESTS = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]

README = (ROOT / "README.md").read_text()
ANCHOR = re.compile(r"\]\(([^)#:\s]*)#([^)\s]+)\)")


def leaves(group, path=frozenset()):
    """The words of every command; the sinks are one."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group) and name != "sink":
            yield from leaves(command, path | {name})
        else:
            yield path | {name}


def headings(document):
    """The headings of a document as links name them."""
    found = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_make_commands_exist(document):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert set(MAKE_COMMAND.findall(document.read_text())) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document):
    links = LINK.findall(document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_readme_names_both_commands():
    assert {"demo", "test"} <= set(MAKE_COMMAND.findall((ROOT / "README.md").read_text()))


def test_readme_names_every_command():
    lines = [set(re.findall(r"[\w-]+", line)) for line in README.splitlines() if "odograph" in line]
    unnamed = [path for path in leaves(odograph) if not any(path <= line for line in lines)]
    assert unnamed == []


def test_every_page_is_linked_from_another():
    linked = {
        (document.parent / link).resolve()
        for document in DOCUMENTS
        for link in LINK.findall(document.read_text())
        if (document.parent / link).resolve() != document
    }
    pages = {page for page in DOCUMENTS if page.is_relative_to(ROOT / "docs")}
    pages -= set((ROOT / "docs" / "adr").iterdir())  # linked as a folder
    assert {name_of(page) for page in pages - linked} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_headings(document):
    astray = [
        f"{place}#{heading}"
        for place, heading in ANCHOR.findall(document.read_text())
        if heading not in headings(document.parent / place if place else document)
    ]
    assert astray == []


def exists(path):
    """Whether a path of the repository is there; `<type>` and `*` stand for any name."""
    return any(ROOT.glob(re.sub(r"<[^>]*>", "*", path).rstrip("/")))


def defines(name):
    """Whether a dotted name is a module or something that a module defines at its top."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ROOT.joinpath(*parts[:length])
        if module.is_dir() or module.with_suffix(".py").exists():
            break
    else:
        return False
    rest = parts[length:]
    if not rest:
        return True
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    if not file.exists():
        return False
    names = {
        name
        for node in ast.parse(file.read_text()).body
        for name in (
            [getattr(node, "name", None)]
            + [getattr(target, "id", None) for target in getattr(node, "targets", ())]
        )
    }
    return len(rest) == 1 and rest[0] in names


def is_known(word):
    """False for a path, a file, a test or a dotted name of code that is not there."""
    if PATH.fullmatch(word):
        return exists(word)
    if DOTTED.fullmatch(word):
        return defines(word)
    if FILE_NAME.fullmatch(word):
        return any(path.match(word) for path in FILES)
    return not TEST_NAME.fullmatch(word) or any(f"def {word}(" in text for text in TESTS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_paths_and_names_of_code_exist(document):
    words = [word for text in CODE.findall(document.read_text()) for word in text.split()]
    assert [word for word in words if not is_known(word)] == []


def test_every_folder_of_code_says_what_lives_in_it():
    folders = {
        path.parent
        for package in (*PACKAGES, "bench", "notebooks")
        for path in (ROOT / package).rglob("*.py")
    } - {ROOT / "runners" / "flink" / "worker_site"}  # on the path of workers, no package
    silent = [
        name_of(folder)
        for folder in sorted(folders)
        if not ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    ]
    assert silent == []


def test_ci_runs_the_tests_and_nothing_else():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert [line for line in lines if line.startswith("make ")] == ["make test"]


def test_no_file_holds_a_machine_path():
    holding = [
        f"{path.relative_to(ROOT)}: {found.group().decode()}"
        for path in files()
        if (found := MACHINE_PATH.search(path.read_bytes()))
    ]
    assert holding == []

"""What the documents promise exists, and no file knows the machine it was written on."""

import re

import click
import pytest

from runners.cli.main import odograph
from tests.repository.files import ROOT, files

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKE_COMMAND = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
MACHINE_PATH = re.compile(
    rb"(?<![\w.$}~*-])/(?:home|root|work|tmp|mnt|opt|Users|var/folders)/[\w.-]|[A-Z]:\\\\Users"
)


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
    pages = {page for page in DOCUMENTS if page.parent == ROOT / "docs"}
    assert {name_of(page) for page in pages - linked} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_headings(document):
    astray = [
        f"{place}#{heading}"
        for place, heading in ANCHOR.findall(document.read_text())
        if heading not in headings(document.parent / place if place else document)
    ]
    assert astray == []


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

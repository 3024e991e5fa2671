"""The plain package names belong to Odograph alone in its environment (ADR 0003)."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.repository.files import PACKAGES, ROOT


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_claims_the_name(name):
    claimed_by = set(packages_distributions().get(name, ()))
    assert claimed_by == {"odograph"}


@pytest.mark.parametrize("name", ["bench", "notebooks", "tests"])
def test_no_distribution_hides_a_folder_beside_the_packages(name):
    assert packages_distributions().get(name, []) == []


def test_the_names_lead_to_this_repository():
    code = f"import {', '.join(PACKAGES)}\nfor m in ({', '.join(PACKAGES)}): print(m.__file__)"
    command = [sys.executable, "-I", "-c", code]
    paths = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert paths == [str(ROOT / name / "__init__.py") for name in PACKAGES]


def test_setup_lists_every_package():
    listed = set(re.findall(r'^    "([a-z_.]+)",$', _packages_of_setup(), re.MULTILINE))
    existing = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert listed == existing


def _packages_of_setup() -> str:
    text = (ROOT / "setup.py").read_text()
    return text.partition("PACKAGES = [")[2].partition("]")[0]

"""The reference settings in the docs are what the code reads."""

import re
from pathlib import Path

import pytest
import yaml

from runners.config import SINKS, Config, SinksConfig, load_config

EXAMPLE = Path(__file__).parents[2] / "docs" / "config.example.yaml"


def test_the_example_is_accepted_and_states_the_defaults():
    assert load_config(str(EXAMPLE)) == Config()


def test_the_example_names_every_setting():
    example = yaml.safe_load(EXAMPLE.read_text())
    known = Config().model_dump(mode="json")

    def keys(value, path=()):
        if not isinstance(value, dict):
            return {path}
        return {key for name, inner in value.items() for key in keys(inner, (*path, name))}

    assert keys(example) == keys(known)


def sinks_of_the_example():
    """The keys of each store, which are comments below the name of the store."""
    section = EXAMPLE.read_text().partition("\nsinks:")[2].partition("\n\nrules:")[0]
    named = re.sub(r"^  (\w+): null.*", r"\1:", section, flags=re.MULTILINE)
    return yaml.safe_load(re.sub(r"^  #   ", "  ", named, flags=re.MULTILINE))


@pytest.mark.parametrize("name", SINKS)
def test_the_example_names_every_setting_of_a_store_with_its_default(name):
    example = sinks_of_the_example()[name]
    settings = getattr(SinksConfig(**{name: example}), name)
    assert example.keys() == type(settings).model_fields.keys()
    assert settings == type(settings)()


def test_an_empty_file_means_the_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_config(str(path)) == Config()

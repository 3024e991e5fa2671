"""The reference settings in the docs are what the code reads."""

from pathlib import Path

import yaml

from runners.config import Config, load_config

EXAMPLE = Path(__file__).parents[2] / "docs" / "config.example.yaml"


def test_the_example_is_accepted_and_states_the_defaults():
    assert load_config(str(EXAMPLE)) == Config()


def test_the_example_names_every_setting():
    given = yaml.safe_load(EXAMPLE.read_text())
    known = Config().model_dump(mode="json")

    def keys(value, path=()):
        if not isinstance(value, dict):
            return {path}
        return {key for name, one in value.items() for key in keys(one, (*path, name))}

    assert keys(given) == keys(known)


def test_an_empty_file_means_the_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_config(str(path)) == Config()

"""What goes wrong outside or in the settings; bad data is no error but a dead letter."""

from __future__ import annotations


class DependencyFailed(Exception):
    """Something outside, such as a store or a broker, did not do what was asked: names it, the
    place and the error."""


class BadSettings(ValueError):
    """A setting that cannot be meant or followed: names it, its value and what to do."""


class MissingSecret(BadSettings):
    """A secret reference that leads nowhere: names the reference and what to do."""


class BadConfig(Exception):
    """A setting that is not understood: names file, key, value and what was expected."""


class BadArguments(Exception):
    """An argument that cannot be meant: names it, its value and what to do."""

"""What goes wrong outside or in the settings; bad data is no error but a dead letter."""

from __future__ import annotations


class DependencyFailed(Exception):
    """Something outside, such as a store or a broker, did not do what was asked: names it, the
    place and the error."""


class BadSettings(ValueError):
    """What somebody set or asked for cannot be followed: names it, its value and what to do."""


class MissingSecret(BadSettings):
    """A secret reference that leads nowhere: names the reference and what to do."""


class BadArguments(BadSettings):
    """An argument of a command that cannot be followed."""

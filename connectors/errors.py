"""Errors of dependencies and settings. Bad data raises none of them: it becomes dead letters."""

from __future__ import annotations


class DependencyFailed(Exception):
    """A dependency, such as a store or a broker, did not do what was asked: names it, its address
    and the error. Running again may help."""


class BadSettings(ValueError):
    """A setting or argument that cannot be followed: names it, its value and what to do."""


class MissingSecret(BadSettings):
    """A reference to a secret that does not exist: names the reference and what to do."""


class BadArguments(BadSettings):
    """An argument of a command that cannot be followed."""

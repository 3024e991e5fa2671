"""A group of commands that imports a command only when it is used, so that each starts soon."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group with further commands in `modules`: command name -> module, where the command has the
    same name."""

    def __init__(self, *args: Any, modules: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in order."""
        return sorted({*super().list_commands(ctx), *self.modules})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, None where there is none."""
        if name not in self.modules:
            return super().get_command(ctx, name)
        command: click.Command = getattr(import_module(self.modules[name]), name)
        return command

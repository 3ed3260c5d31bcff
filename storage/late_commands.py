"""Of the front door: --version, and commands whose module is imported when one is called or listed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from storage.version import VERSION


def _say_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"FlowGRPO Studio {VERSION}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Says which release this is.")
]


def late(modules: Mapping[str, str]) -> type[TyperGroup]:
    """The class of a group that has these commands beside its own.

    Args:
        modules: command to the module that has it: as a command of its `cli`, or as its `cli` itself.
    """

    class Commands(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return [*super().list_commands(ctx), *modules]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in modules:
                return super().get_command(ctx, cmd_name)
            found = typer.main.get_command(import_module(modules[cmd_name]).cli)
            inner = getattr(found, "commands", {}).get(cmd_name)
            if inner is None:
                found.name = cmd_name  # the module's own name for it is none
            return inner or found

    return Commands

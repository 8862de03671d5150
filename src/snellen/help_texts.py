"""Help of commands as it was written: brackets in it are text, not markup. Knows nothing of the commands."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand
from typer.models import CommandFunctionType


class LiteralHelp(typer.Typer):
    """An app whose commands show every bracket of their help."""

    def command(self, *args: Any, **options: Any) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """As that of Typer, with the class below where none is named."""
        return super().command(*args, **{"cls": LiteralCommand, **options})


class LiteralCommand(TyperCommand):
    """Typer hands help to Rich, which would take `[tune]` for a style and leave it out."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        shown = copy.copy(self)
        shown.help = _escape(self.help)
        shown.params = [_escape_parameter(parameter) for parameter in self.params]
        TyperCommand.format_help(shown, ctx, formatter)


def _escape_parameter(parameter: Any) -> Any:
    shown = copy.copy(parameter)
    if getattr(shown, "help", None):
        shown.help = _escape(shown.help)
    return shown


def _escape(text: str | None) -> str | None:
    from rich.markup import escape

    return None if text is None else escape(text)

"""Command groups that print errors of the user without a traceback."""

from __future__ import annotations

from typing import Any

import click

from scaling.records.errors import UserError

__all__ = ["UserErrorGroup"]


class _Reported(click.ClickException):
    exit_code = 2


class UserErrorGroup(click.Group):
    """A group of commands. A `UserError` in one of them is printed as `Error: MESSAGE`, with exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Reported(str(error)) from error

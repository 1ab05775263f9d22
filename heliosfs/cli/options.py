"""Parameters that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


class Name(click.ParamType[str]):
    """The name of a snapshot or branch: one path component, any bytes."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not text or text in (".", "..") or "/" in text or "\0" in text:
            self.fail(f"{text!r} cannot be a name: it must be one component of a path", param, ctx)
        return text


NAME = Name()


class Note(click.ParamType[tuple[str, str]]):
    """KEY=VALUE."""

    name = "note"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, separator, text = str(value).partition("=")
        if not separator or not key:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, text


NOTE = Note()


def mountpoint(function: Function) -> Function:
    """The argument MOUNTPOINT: any path inside the mount."""
    return click.argument("mountpoint", type=click.Path())(function)


def as_json(function: Function) -> Function:
    """The switch --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)

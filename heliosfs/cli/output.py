"""How things are printed: names, sizes, times, tables, JSON.

Names travel as `str` with surrogate escapes and are printed by `shown`. JSON is lossless: `json` writes
surrogate escapes as \\udcXX, and they come back with `os.fsencode`.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click

from heliosfs.base.quoting import shown

JsonObject = dict[str, Any]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(number: int | float) -> str:
    """Bytes in the largest unit that leaves at least 1, with three digits: 1.50 MiB."""
    value = float(number)
    for unit in _UNITS:
        if abs(value) < 1000 or unit == _UNITS[-1]:
            break
        value /= 1024
    if unit == "B":
        return f"{int(value)} B"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f} {unit}"


def when(nanoseconds: int) -> str:
    """A moment in local time, to the second."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000).strftime("%Y-%m-%d %H:%M:%S")


def user(uid: int) -> str:
    """A user's name, or the number of one that this machine does not know."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def say(text: str = "") -> None:
    """One line for a person. Bytes that are no text come out as they came in."""
    click.echo(text.encode("utf-8", "surrogateescape"))


def say_json(value: Any) -> None:
    """Something for a program: one JSON document."""
    click.echo(json.dumps(value, indent=2))


def changes(found: Iterable[JsonObject]) -> None:
    """Changes of a tree, one a line."""
    for change in found:
        old = f"{shown(change['old_path'])} -> " if change["change"] == "R" else ""
        say(f"{change['change']} {old}{shown(change['path'])}")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Columns under bold heads; the columns numbered in `right` are aligned to the right."""
    lines = [tuple(row) for row in rows]
    widths = [max(len(line[column]) for line in [tuple(heads), *lines]) for column in range(len(heads))]

    def laid_out(line: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    click.secho(laid_out(heads), bold=True)
    for line in lines:
        say(laid_out(line))


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line, the values beneath each other."""
    lines = list(pairs)
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        click.echo(click.style(f"{name:<{width}}", bold=True), nl=False)
        say(f"  {value}")


def readable(values: JsonObject, indent: str = "") -> list[tuple[str, str]]:
    """What a verb returned, as names and values for `facts`. The names tell the units: `..._bytes` is a size,
    `..._ns` a moment, `..._ratio` a quotient."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        name = indent + key.removesuffix("_bytes").removesuffix("_ns").replace("_", " ")
        if isinstance(value, dict):
            lines.append((name, ""))
            lines += readable(value, indent + "  ")
        else:
            lines.append((name, _readable(key, value)))
    return lines


def _readable(key: str, value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() if key.endswith("bytes"):
            return size(value)
        case int() if key.endswith("_ns") or key == "created":
            return when(value)
        case int() if key == "uid":
            return user(value)
        case float():
            return f"{value:.2f}"
        case int():
            return f"{value:,}" if value >= 10_000 else str(value)
        case list():
            return ", ".join(_readable(key, each) for each in value) or "-"
        case str():
            return shown(value)
        case _:
            return json.dumps(value)

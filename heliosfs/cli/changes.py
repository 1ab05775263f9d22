"""heliosfs changes: the names of what differs between two states."""

from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call_until_interrupted
from heliosfs.cli.known_names import STATES
from heliosfs.cli.options import NAME, mountpoint
from heliosfs.cli.options import as_json as json_option


@click.command()
@mountpoint
@click.argument("before", metavar="A", type=NAME, shell_complete=STATES)
@click.argument("after", metavar="[B]", type=NAME, required=False, shell_complete=STATES)
@json_option
def command(mountpoint: str, before: str, after: str | None, as_json: bool) -> None:
    """Name what changed from state A to state B, or to the tree as it is now.

    One line a change: A added, D deleted, M modified, R renamed (old -> new), T of another type.
    A state is a snapshot, a branch, NAME@SNAPSHOT, op:N, a time, or now.

    \b
    Examples:
      heliosfs changes . monday
      heliosfs changes . monday tuesday
      heliosfs changes . op:17 now --json
    """
    found: list[dict[str, Any]] = call_until_interrupted(mountpoint, "changes", a=before, b=after)
    if as_json:
        output.say_json(found)
        return
    for change in found:
        output.say(_line(change))


def _line(change: dict[str, Any]) -> str:
    old = f"{shown(change['old_path'])} -> " if change["change"] == "R" else ""
    return f"{change['change']} {old}{shown(change['path'])}"

"""heliosfs conflicts: what merges have left open."""

import sys
from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@json_option
def command(mountpoint: str, as_json: bool) -> None:
    """List the conflicts that merges into the tree at MOUNTPOINT have left open; the exit code is 1 if there are any.

    BASE and THEIRS are where the common base and the other side are, from the root of the tree.

    \b
    Examples:
      heliosfs conflicts .
      heliosfs conflicts . --json | jq -r '.[].path'
    """
    found: list[dict[str, Any]] = call(mountpoint, "conflicts")
    if as_json:
        output.say_json(found)
    elif found:
        output.table(
            ("PATH", "KIND", "BASE", "THEIRS"),
            [
                (shown(each["path"]), each["kind"], *(_place(each, side) for side in ("base", "theirs")))
                for each in found
            ],
        )
    if found:
        sys.exit(1)


def _place(conflict: dict[str, Any], side: str) -> str:
    place = conflict.get(f"{side}_at")
    return "-" if place is None else shown(place)

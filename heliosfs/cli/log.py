"""heliosfs log: the operation log of a tree."""

from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Show only the newest LIMIT operations.")
@json_option
def command(mountpoint: str, limit: int | None, as_json: bool) -> None:
    """Show what was done to the snapshots and branches of the tree at MOUNTPOINT, newest first."""
    found: list[dict[str, Any]] = call(mountpoint, "log", limit=limit)
    if as_json:
        output.say_json(found)
    elif not found:
        click.echo("No operations yet.", err=True)
    else:
        output.table(("NUMBER", "WHEN", "BY", "WHAT"), [_row(each) for each in found], right=(0,))


def _row(operation: dict[str, Any]) -> tuple[str, str, str, str]:
    return (
        str(operation["number"]),
        output.when(operation["time"]),
        output.user(operation["uid"]),
        shown(operation["what"]),
    )

"""heliosfs restore: roll a tree back, or some paths of it."""

from typing import Any

import click

from heliosfs.cli import output
from heliosfs.cli.call import call, paths_in_tree
from heliosfs.cli.known_names import STATES
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@click.argument("state", shell_complete=STATES)
@click.argument("paths", metavar="[-- PATH...]", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only list what would change.")
@json_option
def command(mountpoint: str, state: str, paths: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Roll the tree at MOUNTPOINT back to STATE: a snapshot, a branch, NAME@SNAPSHOT, op:N, or a time such as
    "5 minutes ago".

    With PATHs, counted from the root of the tree, only what is at or below them. What has changed is listed then.

    The state before stays recoverable: `heliosfs undo MOUNTPOINT` returns to it.

    \b
    Examples:
      heliosfs restore . monday
      heliosfs restore . monday --dry-run
      heliosfs restore . monday -- src/main.c
      heliosfs restore . '5 minutes ago'
    """
    wanted = paths_in_tree(mountpoint, paths)
    result: dict[str, Any] = call(mountpoint, "restore", state=state, paths=wanted or None, dry_run=dry_run or None)
    if as_json:
        output.say_json(result)
        return
    if "changes" in result:
        output.changes(result["changes"])
        if not result["changes"]:
            click.echo("Nothing to restore.", err=True)

"""heliosfs merge: bring in what a branch has changed."""

import sys
from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call, paths_in_tree
from heliosfs.cli.known_names import BRANCHES
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@click.argument("branch", shell_complete=BRANCHES)
@click.argument("paths", metavar="[-- PATH...]", nargs=-1)
@click.option("--into", metavar="BRANCH", help="Merge into this branch below MOUNTPOINT instead.")
@click.option("--dry-run", is_flag=True, help="Only say what would come of it.")
@click.option("--strategy", type=click.Choice(["ours", "theirs"]), help="Decide conflicts for one side.")
@click.option("-m", "--message", help="A text for the operation log.")
@json_option
def command(
    mountpoint: str,
    branch: str,
    paths: tuple[str, ...],
    into: str | None,
    dry_run: bool,
    strategy: str | None,
    message: str | None,
    as_json: bool,
) -> None:
    """Merge what BRANCH has changed into the tree at MOUNTPOINT.

    BRANCH is the name of a branch below MOUNTPOINT, NAME/NAME for one further down, or . for the tree at MOUNTPOINT
    itself (with --into). With PATHs, counted from the root of the tree, only what is at or below them.

    Where both sides changed the same thing, ours stays and a conflict is noted; the exit code is 1 then. See
    `heliosfs conflicts` and `heliosfs resolve`.

    \b
    Examples:
      heliosfs merge . attempt
      heliosfs merge . attempt --dry-run
      heliosfs merge . attempt -- src docs
      heliosfs merge . . --into attempt
    """
    result: dict[str, Any] = call(
        mountpoint,
        "merge",
        branch=branch,
        into=into,
        paths=paths_in_tree(mountpoint, paths) or None,
        dry_run=dry_run or None,
        strategy=strategy,
        message=message,
    )
    if as_json:
        output.say_json(result)
    else:
        _say(result)
    if result["conflicts"]:
        sys.exit(1)


def _say(result: dict[str, Any]) -> None:
    output.changes(result["changes"])
    for conflict in result["conflicts"]:
        output.say(f"conflict ({conflict['kind']}): {shown(conflict['path'])}")
    for conflict in result["decided"]:
        output.say(f"decided ({conflict['kind']}): {shown(conflict['path'])}")
    if not result["operation"] and not result.get("dry_run"):
        click.echo("Nothing to merge.", err=True)

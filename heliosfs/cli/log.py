"""heliosfs log: the operation log of a tree."""

import sys
from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call, call_until_interrupted
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Show only the newest LIMIT operations.")
@click.option("--verify", is_flag=True, help="Check that nothing was changed in the log or taken out of it.")
@json_option
def command(mountpoint: str, limit: int | None, verify: bool, as_json: bool) -> None:
    """Show what was done to the snapshots and branches of the tree at MOUNTPOINT, newest first.

    Each operation holds a digest of itself and of the one before it. --verify checks these for the whole volume; the
    exit code is 1 when something does not fit. --json shows what each operation changed, before and after.

    \b
    Examples:
      heliosfs log . --limit 20
      heliosfs log . --json | jq '.[0]'
      heliosfs log . --verify
    """
    if verify:
        _verify(mountpoint, as_json)
        return
    found: list[dict[str, Any]] = call(mountpoint, "log", limit=limit)
    if as_json:
        output.say_json(found)
    elif not found:
        click.echo("No operations yet.", err=True)
    else:
        output.table(("NUMBER", "WHEN", "BY", "WHAT"), [_row(each) for each in found], right=(0,))


def _verify(mountpoint: str, as_json: bool) -> None:
    result: dict[str, Any] = call_until_interrupted(mountpoint, "log.verify")
    if as_json:
        output.say_json(result)
    else:
        for problem in result["problems"]:
            output.say(problem)
        click.echo(f"{result['checked']} operations checked, {len(result['problems'])} problems.", err=True)
    if result["problems"]:
        sys.exit(1)


def _row(operation: dict[str, Any]) -> tuple[str, str, str, str]:
    return (
        str(operation["number"]),
        output.when(operation["time"]),
        output.user(operation["uid"]),
        shown(operation["what"]),
    )

"""heliosfs restore: roll a tree back."""

import click

from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.options import NAME, mountpoint
from heliosfs.cli.options import as_json as json_option


@click.command()
@mountpoint
@click.argument("snapshot", type=NAME)
@json_option
def command(mountpoint: str, snapshot: str, as_json: bool) -> None:
    """Roll the tree at MOUNTPOINT back to SNAPSHOT.

    The state before stays recoverable: `heliosfs undo MOUNTPOINT` returns to it.
    """
    result = call(mountpoint, "restore", state=snapshot)
    if as_json:
        output.say_json(result)

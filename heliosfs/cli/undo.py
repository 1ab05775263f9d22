"""heliosfs undo: take an operation back."""

import click

from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@click.argument("operation", type=int, required=False)
@json_option
def command(mountpoint: str, operation: int | None, as_json: bool) -> None:
    """Take back the last operation on the tree at MOUNTPOINT, or the one numbered OPERATION in its log.

    An undo is an operation itself and can be undone. Deleted snapshots and branches come back, and a tree that was
    rolled back or merged into is as it was before, without what was changed since, until `heliosfs log` no longer has
    the operation.

    \b
    Examples:
      heliosfs undo .
      heliosfs log .
      heliosfs undo . 17
    """
    result = call(mountpoint, "undo", operation=operation)
    if as_json:
        output.say_json(result)

"""heliosfs resolve: settle a conflict."""

from typing import Any

import click

from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@click.argument("path")
@click.option("--ours", "how", flag_value="ours", help="What was here before the merge stays.")
@click.option("--theirs", "how", flag_value="theirs", help="Take what the other side has, be it a deletion.")
@click.option("--merged", "how", flag_value="merged", help="What is here now, edited as it may be, is the result.")
@json_option
def command(mountpoint: str, path: str, how: str | None, as_json: bool) -> None:
    """Settle the conflict at PATH, as `heliosfs conflicts` calls it, in one of three ways.

    `heliosfs undo` opens it again.

    \b
    Examples:
      heliosfs resolve . src/main.c --theirs
      heliosfs resolve . src/main.c --merged
    """
    if how is None:
        raise click.UsageError("say how: --ours, --theirs or --merged")
    result: dict[str, Any] = call(mountpoint, "resolve", path=path, how=how)
    if as_json:
        output.say_json(result)

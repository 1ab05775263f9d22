"""heliosfs resolve: settle a conflict."""

from typing import Any

import click

from heliosfs.cli import output
from heliosfs.cli.call import call, paths_in_tree
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@click.argument("path")
@click.option("--ours", is_flag=True, help="What was here before the merge stays.")
@click.option("--theirs", is_flag=True, help="Take what the other side has, be it a deletion.")
@click.option("--merged", is_flag=True, help="What is here now, edited as it may be, is the result.")
@json_option
def command(mountpoint: str, path: str, ours: bool, theirs: bool, merged: bool, as_json: bool) -> None:
    """Settle the conflict at PATH, as `heliosfs conflicts` calls it, in one of three ways.

    PATH is counted from the root of the tree, or absolute. `heliosfs undo` opens it again.

    \b
    Examples:
      heliosfs resolve . src/main.c --theirs
      heliosfs resolve . src/main.c --merged
    """
    ways = [way for way, wanted in (("ours", ours), ("theirs", theirs), ("merged", merged)) if wanted]
    if len(ways) != 1:
        raise click.UsageError("say how: --ours, --theirs or --merged, one of them")
    [path] = paths_in_tree(mountpoint, [path])
    result: dict[str, Any] = call(mountpoint, "resolve", path=path, how=ways[0])
    if as_json:
        output.say_json(result)

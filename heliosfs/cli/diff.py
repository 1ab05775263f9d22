"""heliosfs diff: the lines that differ between two states."""

import click

from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.options import NAME, mountpoint
from heliosfs.cli.options import as_json as json_option


@click.command()
@mountpoint
@click.argument("before", metavar="A", type=NAME)
@click.argument("after", metavar="[B]", type=NAME, required=False)
@json_option
def command(mountpoint: str, before: str, after: str | None, as_json: bool) -> None:
    """Show what changed from snapshot A to snapshot B, or to the tree as it is now, as a unified diff."""
    text: str = call(mountpoint, "diff", a=before, b=after)
    if as_json:
        output.say_json({"diff": text})
        return
    for line in text.splitlines():
        click.secho(line.encode("utf-8", "surrogateescape"), fg=_colour(line))


def _colour(line: str) -> str | None:
    if line.startswith(("+++", "---", "diff ")):
        return "bright_white"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])

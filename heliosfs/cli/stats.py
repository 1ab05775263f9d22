"""heliosfs stats: what the volume holds and how it works."""

import click

from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@json_option
def command(mountpoint: str, as_json: bool) -> None:
    """Show sizes, deduplication and compression, cache hits, layers, the backlog and requests by kind.

    Sizes are those of the whole volume: logical is all that was given to the store to keep, unique what is left of it
    when the same bytes count once, stored what these take after compression. What still lies in the journal
    (uncut files) is not in them yet.

    \b
    Examples:
      heliosfs stats .
      heliosfs stats . --json | jq .deduplication_ratio
    """
    result = call(mountpoint, "stats")
    if as_json:
        output.say_json(result)
    else:
        output.facts(output.readable(result))

"""heliosfs diff: the lines that differ between two states."""

import sys
from typing import Any

import click

from heliosfs.cli import output
from heliosfs.cli.call import call_until_interrupted, paths_in_tree
from heliosfs.cli.known_names import STATES
from heliosfs.cli.options import NAME, mountpoint
from heliosfs.cli.options import as_json as json_option

COLOURS = {"+": "green", "-": "red", "@": "cyan"}
"""By what a line begins with."""


class _Command(click.Command):
    """What follows `--` are paths, also where the second state is left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.obj = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


@click.command(cls=_Command, options_metavar="[OPTIONS]")
@mountpoint
@click.argument("before", metavar="A", type=NAME, shell_complete=STATES)
@click.argument("after", metavar="[B] [-- PATH...]", type=NAME, required=False, shell_complete=STATES)
@click.option("--stat", "form", flag_value="stat", help="Only how many lines of each file changed.")
@click.option("--names", "form", flag_value="names", help="Only a letter and the path of each change, as git has them.")
@json_option
@click.pass_context
def command(
    context: click.Context, mountpoint: str, before: str, after: str | None, form: str | None, as_json: bool
) -> None:
    """Show what changed from state A to state B, or to the tree as it is now, as a unified diff.

    A state is a snapshot, a branch, NAME@SNAPSHOT, op:N, a time, or now. With PATHs, counted from the root of the
    tree, only what is at or below them. `git apply` and `patch -p1` take the diff.

    \b
    Examples:
      heliosfs diff . monday
      heliosfs diff . monday tuesday --stat
      heliosfs diff . '1 hour ago' -- src/main.c
      heliosfs diff . monday attempt | patch -p1
    """
    if as_json:
        form = "json"
    wanted = paths_in_tree(mountpoint, context.obj) or None
    found: Any = call_until_interrupted(mountpoint, "diff", a=before, b=after, form=form, paths=wanted)
    if as_json:
        output.say_json(found)
    elif form is None and sys.stdout.isatty() and context.color is not False:
        _say_coloured(found)
    else:
        click.echo(found.encode("utf-8", "surrogateescape"), nl=False)


def _say_coloured(text: str) -> None:
    for line in text.split("\n")[:-1]:
        output.say(_coloured(line))


def _coloured(line: str) -> str:
    if line.startswith(("+++", "---", "diff ")):
        return click.style(line, bold=True)
    return click.style(line, fg=colour) if (colour := COLOURS.get(line[:1])) else line

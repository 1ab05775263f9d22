"""heliosfs branch: forks of the tree at MOUNTPOINT."""

from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.known_names import BRANCHES, SNAPSHOTS
from heliosfs.cli.options import NAME, mountpoint
from heliosfs.cli.options import as_json as json_option


@click.group()
def command() -> None:
    """Writable forks of the tree at MOUNTPOINT, each a directory MOUNTPOINT/.branches/NAME.

    The same with file calls: mkdir, mv and rmdir in MOUNTPOINT/.branches.

    \b
    Examples:
      heliosfs branch create . attempt
      heliosfs branch create . older --from monday
      cd .branches/attempt
      heliosfs branch delete . attempt older
    """


@command.command()
@mountpoint
@click.argument("name", type=NAME)
@click.option(
    "--from",
    "source",
    metavar="SNAPSHOT",
    type=NAME,
    shell_complete=SNAPSHOTS,
    help="Fork this snapshot, not the tree as it is.",
)
@json_option
def create(mountpoint: str, name: str, source: str | None, as_json: bool) -> None:
    """Fork the tree: a new branch NAME with the same content."""
    # The verb's argument is called `from`, which is no name in Python.
    result = call(mountpoint, "branch.create", name=name, **{"from": source})
    if as_json:
        output.say_json(result)


@command.command("list")
@mountpoint
@json_option
def list_(mountpoint: str, as_json: bool) -> None:
    """List the branches of this tree, oldest first."""
    found: list[dict[str, Any]] = call(mountpoint, "branch.list")
    if as_json:
        output.say_json(found)
    elif not found:
        click.echo("No branches.", err=True)
    else:
        output.table(
            ("NAME", "CREATED", "BY"),
            [(shown(each["name"]), output.when(each["created"]), output.user(each["uid"])) for each in found],
        )


@command.command()
@mountpoint
@click.argument("name", type=NAME, shell_complete=BRANCHES)
@json_option
def show(mountpoint: str, name: str, as_json: bool) -> None:
    """Show what is known of the branch NAME."""
    result = call(mountpoint, "branch.show", name=name)
    if as_json:
        output.say_json(result)
    else:
        output.facts(output.readable(result))


@command.command()
@mountpoint
@click.argument("old", type=NAME, shell_complete=BRANCHES)
@click.argument("new", type=NAME)
def rename(mountpoint: str, old: str, new: str) -> None:
    """Give the branch OLD the name NEW."""
    call(mountpoint, "branch.rename", old=old, new=new)


@command.command(short_help="Drop branches; `heliosfs undo` brings back the last one.")
@mountpoint
@click.argument("names", metavar="NAME...", type=NAME, nargs=-1, required=True, shell_complete=BRANCHES)
def delete(mountpoint: str, names: tuple[str, ...]) -> None:
    """Drop branches with their content. Each is an operation: `heliosfs undo` brings back the last one."""
    for name in names:
        call(mountpoint, "branch.delete", name=name)

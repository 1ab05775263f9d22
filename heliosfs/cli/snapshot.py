"""heliosfs snapshot: checkpoints of the tree at MOUNTPOINT."""

from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.known_names import SNAPSHOTS
from heliosfs.cli.options import NAME, mountpoint
from heliosfs.cli.options import as_json as json_option


@click.group()
def command() -> None:
    """Checkpoints of the tree at MOUNTPOINT: free to make, whatever the size of the tree.

    Snapshots are read-only directories MOUNTPOINT/.snapshots/NAME. The same with file calls: mkdir, mv and rmdir there.

    \b
    Examples:
      heliosfs snapshot create . monday
      heliosfs snapshot list .
      heliosfs snapshot delete . monday
      heliosfs undo .
    """


@command.command()
@mountpoint
@click.argument("name", type=NAME)
@json_option
def create(mountpoint: str, name: str, as_json: bool) -> None:
    """Make the snapshot NAME of the tree as it is now."""
    result = call(mountpoint, "snapshot.create", name=name)
    if as_json:
        output.say_json(result)


@command.command("list")
@mountpoint
@json_option
def list_(mountpoint: str, as_json: bool) -> None:
    """List the snapshots, oldest first."""
    found: list[dict[str, Any]] = call(mountpoint, "snapshot.list")
    if as_json:
        output.say_json(found)
    elif not found:
        click.echo("No snapshots.", err=True)
    else:
        output.table(
            ("NAME", "CREATED", "BY"),
            [(shown(each["name"]), output.when(each["created"]), output.user(each["uid"])) for each in found],
        )


@command.command()
@mountpoint
@click.argument("name", type=NAME, shell_complete=SNAPSHOTS)
@json_option
def show(mountpoint: str, name: str, as_json: bool) -> None:
    """Show what is known of the snapshot NAME."""
    result = call(mountpoint, "snapshot.show", name=name)
    if as_json:
        output.say_json(result)
    else:
        output.facts(output.readable(result))


@command.command()
@mountpoint
@click.argument("old", type=NAME, shell_complete=SNAPSHOTS)
@click.argument("new", type=NAME)
def rename(mountpoint: str, old: str, new: str) -> None:
    """Give the snapshot OLD the name NEW."""
    call(mountpoint, "snapshot.rename", old=old, new=new)


@command.command()
@mountpoint
@click.argument("names", metavar="NAME...", type=NAME, nargs=-1, required=True, shell_complete=SNAPSHOTS)
def delete(mountpoint: str, names: tuple[str, ...]) -> None:
    """Drop snapshots; `heliosfs undo` brings them back."""
    for name in names:
        call(mountpoint, "snapshot.delete", name=name)

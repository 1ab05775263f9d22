"""heliosfs snapshot: checkpoints of the tree at MOUNTPOINT."""

from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.known_names import SNAPSHOTS
from heliosfs.cli.options import NAME, NOTE, mountpoint
from heliosfs.cli.options import as_json as json_option


@click.group()
def command() -> None:
    """Checkpoints of the tree at MOUNTPOINT: free to make, whatever the size of the tree.

    Snapshots are read-only directories MOUNTPOINT/.snapshots/NAME. The same with file calls: mkdir, mv and rmdir there;
    notes are their extended attributes user.heliosfs.note.KEY.

    \b
    Examples:
      heliosfs snapshot create . monday
      heliosfs snapshot create . tested -m 'all green' --set task=7
      heliosfs snapshot list . --where task=7
      heliosfs snapshot hold . tested
      heliosfs snapshot delete . monday
      heliosfs undo .
    """


@command.command()
@mountpoint
@click.argument("name", type=NAME)
@click.option("-m", "--message", help="What it is.")
@click.option("--set", "notes", metavar="KEY=VALUE", multiple=True, type=NOTE, help="A note; can be repeated.")
@json_option
def create(
    mountpoint: str, name: str, message: str | None, notes: tuple[tuple[str, str], ...], as_json: bool
) -> None:
    """Make the snapshot NAME of the tree as it is now."""
    result = call(mountpoint, "snapshot.create", name=name, message=message, notes=dict(notes) or None)
    if as_json:
        output.say_json(result)


@command.command("list")
@mountpoint
@click.option("--where", metavar="KEY=VALUE", multiple=True, type=NOTE, help="Only those with this note.")
@click.option("--auto", is_flag=True, help="The states that are kept by themselves.")
@json_option
def list_(mountpoint: str, where: tuple[tuple[str, str], ...], auto: bool, as_json: bool) -> None:
    """List the snapshots, oldest first."""
    found: list[dict[str, Any]] = call(
        mountpoint, "snapshot.list", where=dict(where) or None, auto=auto or None
    )
    if as_json:
        output.say_json(found)
    elif not found:
        click.echo("No snapshots.", err=True)
    else:
        output.table(
            ("NAME", "CREATED", "BY", ""),
            [
                (shown(each["name"]), output.when(each["created"]), output.user(each["uid"]), _said_of(each))
                for each in found
            ],
        )


def _said_of(snapshot: dict[str, Any]) -> str:
    """Hold, notes and the first line of the message."""
    notes = [f"{key}={shown(value)}" for key, value in snapshot.get("notes", {}).items()]
    message = snapshot.get("message", "").partition("\n")[0]
    return "  ".join([*(["held"] if snapshot.get("held") else []), *notes, *([shown(message)] if message else [])])


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
def hold(mountpoint: str, names: tuple[str, ...]) -> None:
    """Protect snapshots from deletion, until they are released."""
    for name in names:
        call(mountpoint, "snapshot.hold", name=name)


@command.command()
@mountpoint
@click.argument("names", metavar="NAME...", type=NAME, nargs=-1, required=True, shell_complete=SNAPSHOTS)
def release(mountpoint: str, names: tuple[str, ...]) -> None:
    """Let held snapshots be deleted again."""
    for name in names:
        call(mountpoint, "snapshot.release", name=name)


@command.command(short_help="Drop snapshots; `heliosfs undo` brings back the last one.")
@mountpoint
@click.argument("names", metavar="NAME...", type=NAME, nargs=-1, required=True, shell_complete=SNAPSHOTS)
def delete(mountpoint: str, names: tuple[str, ...]) -> None:
    """Drop snapshots. Each is an operation: `heliosfs undo` brings back the last one."""
    for name in names:
        call(mountpoint, "snapshot.delete", name=name)

"""heliosfs config: the settings of a volume."""

from typing import Any

import click

from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
@click.argument("key", required=False)
@click.argument("value", required=False)
@json_option
def command(mountpoint: str, key: str | None, value: str | None, as_json: bool) -> None:
    """Show the settings of the volume at MOUNTPOINT, or the one called KEY, or set it to VALUE.

    The value "default" takes it back to what it is when nobody has set it. Durations are written 10s, 5m, 6h, 7d, 2w.
    A setting counts for the whole volume; `heliosfs undo` takes a change back.

    \b
    Examples:
      heliosfs config .
      heliosfs config . auto.interval 1m
      heliosfs config . auto.keep.days default
    """
    found: list[dict[str, Any]] = call(mountpoint, "config", key=key, value=value)
    if as_json:
        output.say_json(found if key is None else found[0])
    elif key is None:
        output.table(
            ("KEY", "VALUE", ""),
            [(each["name"], each["value"], each["about"]) for each in found],
        )
    elif value is None:
        output.say(found[0]["value"])

"""heliosfs sync: a barrier against power cuts."""

import click

from heliosfs.cli.call import call
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
def command(mountpoint: str) -> None:
    """Return when everything written to the volume at MOUNTPOINT would survive a power cut."""
    call(mountpoint, "sync")

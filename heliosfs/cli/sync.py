"""heliosfs sync: a barrier against power cuts."""

import click

from heliosfs.cli.call import call
from heliosfs.cli.options import mountpoint


@click.command()
@mountpoint
def command(mountpoint: str) -> None:
    """Return when everything written to the volume at MOUNTPOINT would survive a power cut.

    The fsync of any file or directory in it does the same for what was written before, except that pages of shared
    mappings that were never synced are written back by this command alone.

    \b
    Examples:
      heliosfs sync .
    """
    call(mountpoint, "sync")

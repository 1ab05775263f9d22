"""heliosfs mount: start a daemon for a store and return when its mount can be used."""

import os
from pathlib import Path

import click

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.daemon import background, mounts


def _list_options(
    context: click.Context, parameter: click.Parameter, words: tuple[str, ...]
) -> tuple[str, ...]:
    if "help" in words:
        from heliosfs.daemon import mount_options

        click.echo(mount_options.describe())
        context.exit()
    return words


@click.command()
@click.argument("store", type=click.Path())
@click.argument("mountpoint", type=click.Path())
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to standard error.")
@click.option("--branch", metavar="NAME", help="Mount this branch as the root (A/B: the branch B of A).")
@click.option("--base", metavar="DIRECTORY", type=click.Path(), help="Begin a new volume with this directory.")
@click.option("-r", "--read-only", is_flag=True, help="Refuse every change.")
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="OPTIONS",
    is_eager=True,
    callback=_list_options,
    help="Mount options, separated by commas; `-o help` lists them.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much goes into STORE/log/heliosfs.log, or to standard error.",
)
def command(
    store: str,
    mountpoint: str,
    foreground: bool,
    branch: str | None,
    base: str | None,
    read_only: bool,
    options: tuple[str, ...],
    log_level: str,
) -> None:
    """Mount STORE on the directory MOUNTPOINT and return when it can be used.

    STORE is a directory; it is created if there is none. Whatever is written into the mount is kept in it.
    MOUNTPOINT is a directory outside of STORE, best an empty one: what is in it is hidden while the volume is mounted.
    With --base a new volume shows DIRECTORY at once, whatever its size: what is in it is taken in when it is first
    touched and in the background, and `heliosfs status` says how far that is. DIRECTORY is never written.
    A store can be mounted once at a time. The daemon logs to STORE/log/heliosfs.log.

    \b
    Examples:
      heliosfs mount ~/work.store ~/work
      heliosfs mount -o allow_other,list_magic /var/lib/work /srv/work
      heliosfs mount --branch attempt ~/work.store ~/attempt
      heliosfs mount --base ~/project ~/work.store ~/work
      heliosfs mount --read-only ~/work.store ~/look
    """
    from heliosfs.daemon import mount_options

    try:
        parsed = mount_options.parse(options, branch=branch, read_only=read_only)
    except ValueError as error:
        raise click.BadOptionUsage("-o", str(error)) from None
    store, mountpoint = os.path.realpath(store), os.path.realpath(mountpoint)
    if not os.path.exists("/dev/fuse"):
        raise HeliosError(
            "there is no /dev/fuse, so nothing can be mounted; load the module (modprobe fuse), "
            "in a container give it the device (--device /dev/fuse --cap-add SYS_ADMIN)"
        )
    above = os.path.dirname(store)
    if not os.path.isdir(above):
        raise HeliosError(f"{shown(above)}, where the store is to be, is no directory; make it first")
    if os.path.exists(store) and not os.path.isdir(store):
        raise HeliosError(f"{shown(store)} is no directory, so it is no store; name another place")
    if branch and not os.path.exists(store):
        raise HeliosError(f"there is no store {shown(store)}, so it has no branch {shown(branch)}; check the path")
    mounts.check_mountpoint(mountpoint, store)
    if base is not None:
        base = os.path.realpath(base)
        mounts.check_base(base, mountpoint, store)

    def serve(ready: background.Ready) -> None:
        # Only here: the engine takes a while to import, and a mistake above should be told at once.
        from heliosfs.daemon import daemon

        daemon.run(daemon.Assignment(Path(store), mountpoint, parsed, foreground, log_level, base or ""), ready)

    if foreground:
        serve(lambda: None)
    else:
        background.start(serve)

"""heliosfs umount: unmount, and return when the daemon has written everything and let go of the store."""

import json
import os
import select
import time

import click

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.cli.options import mountpoint as mountpoint_argument
from heliosfs.cli.output import user
from heliosfs.daemon import mounts
from heliosfs.daemon.holders import Holder, all_with_open, has_open, holders, keepers

PATIENCE_SECONDS = 3
"""How long the daemon may take to end before we say what we are waiting for."""

HOLDERS_SHOWN_MAX = 10


@click.command()
@mountpoint_argument
@click.option(
    "-z", "--lazy", is_flag=True, help="Take the mount from view now; it ends when its last user lets go."
)
def command(mountpoint: str, lazy: bool) -> None:
    """Unmount the volume at MOUNTPOINT and wait until everything in it is durable.

    Says who uses the mount if it is busy. Also clears away a mount whose daemon was killed; what was acknowledged is
    there again after the next mount.

    \b
    Examples:
      heliosfs umount ~/work
      heliosfs umount --lazy ~/work
    """
    mount = mounts.mount_around(mountpoint)
    if mount is None:
        raise HeliosError(f"{shown(mountpoint)} is not in a HeliosFS mount; `heliosfs status` lists them")
    if os.geteuid() not in (0, mount.user_id):
        owner = user(mount.user_id)
        raise HeliosError(f"{shown(mount.mountpoint)} was mounted by {owner}: only {owner} and root can unmount it")
    # Not to be one of those who keep it busy ourselves.
    os.chdir("/")
    lock = os.path.join(mount.store, "lock")
    daemon = _daemon_of(lock)
    dead = daemon is None and mounts.is_dead(mount.mountpoint)
    failure = mounts.unmount(mount.mountpoint, lazy=lazy or dead)
    if failure:
        raise HeliosError(_explain(mount.mountpoint, failure))
    if daemon is not None and not lazy:
        _wait(daemon, mount)


def _daemon_of(lock: str) -> int | None:
    """The process that holds the store.

    The lock file's word counts only if that process has it open: after a crash its number may belong to
    another. It does not name those that only read; of these there may be several, and none has anything
    left to write.
    """
    try:
        with open(lock, encoding="utf-8") as file:
            pid = int(json.load(file)["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        pid = 0
    if pid and has_open(pid, lock):
        return pid
    readers = all_with_open(lock)
    return readers[0] if len(readers) == 1 else None


def _wait(pid: int, mount: mounts.Mount) -> None:
    """Until the daemon has ended. Whoever waits longer than PATIENCE_SECONDS is told what for."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if not poll.poll(PATIENCE_SECONDS * 1000):
            click.echo(_awaited(pid, mount), err=True)
            begin = time.monotonic()
            poll.poll()
            click.echo(f"done after {PATIENCE_SECONDS + time.monotonic() - begin:.0f} s", err=True)
    finally:
        os.close(process)


def _awaited(pid: int, mount: mounts.Mount) -> str:
    found = keepers(mount)
    if not found:
        return f"waiting for the daemon (process {pid}) to write what is left ..."
    lines = [f"unmounted here, but the daemon (process {pid}) goes on, since the filesystem is still mounted"]
    lines += [f"    {_place(holder)}" for holder in found[:HOLDERS_SHOWN_MAX]]
    if len(found) > HOLDERS_SHOWN_MAX:
        lines.append(f"    and {len(found) - HOLDERS_SHOWN_MAX} more")
    lines.append("Waiting for that to end; Ctrl-C ends the waiting alone, and nothing is lost ...")
    return "\n".join(lines)


def _place(keeper: Holder) -> str:
    if not keeper.pid:
        return f"at {shown(keeper.how)}"
    return f"in the mount namespace of {shown(keeper.command)} (process {keeper.pid}), at {shown(keeper.how)}"


def _explain(mountpoint: str, failure: str) -> str:
    if "busy" not in failure.lower():
        return f"cannot unmount {shown(mountpoint)}: {failure}"
    found = holders(mountpoint)
    lines = [f"{shown(mountpoint)} is in use" + (" by" if found else "; by whom, this user may not see")]
    lines += [f"    {_described(holder)}" for holder in found[:HOLDERS_SHOWN_MAX]]
    if len(found) > HOLDERS_SHOWN_MAX:
        lines.append(f"    and {len(found) - HOLDERS_SHOWN_MAX} more")
    lines.append(
        f"Let them leave, then try again; or take the mount from view now: heliosfs umount --lazy {shown(mountpoint)}"
    )
    return "\n".join(lines)


def _described(holder: Holder) -> str:
    return f"{shown(holder.command)} (process {holder.pid}): {shown(holder.how)}"

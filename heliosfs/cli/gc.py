"""heliosfs gc: free what nothing refers to any more."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import click

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.phases import Progress, progress
from heliosfs.daemon import mounts

LOOK_SECONDS = 0.1
"""Between two looks at how far the daemon is: a small collection is over by the second."""

DAY_SECONDS = 86400


@click.command()
@click.argument("place", metavar="MOUNTPOINT|STORE", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option(
    "--keep-undo",
    metavar="DAYS",
    type=click.FloatRange(min=0),
    help="Keep what was rolled back or deleted for this many days only (30 by default; 0: undo brings back nothing "
    "from before).",
)
@json_option
def command(place: str, dry_run: bool, keep_undo: float | None, as_json: bool) -> None:
    """Free the space of what no branch, snapshot, open file or `undo` refers to any more.

    Works beside live traffic on the volume mounted at MOUNTPOINT, or on a STORE that is not mounted. It may be
    interrupted at any moment. A mounted volume also does this by itself when that pays.

    \b
    Examples:
      heliosfs gc .                       beside whatever else goes on there
      heliosfs gc --dry-run ~/work.store  how much would go
      heliosfs gc --keep-undo 1 .         also what was rolled back or deleted before yesterday
    """
    seconds = None if keep_undo is None else keep_undo * DAY_SECONDS
    mountpoint = _mounted(place)
    with progress() as tell:
        if mountpoint is not None:
            result = _collect_mounted(mountpoint, dry_run, seconds, tell)
        else:
            result = _collect_unmounted(place, dry_run, seconds, tell)
    if as_json:
        output.say_json(result)
    else:
        _say(result, dry_run)


def _mounted(place: str) -> str | None:
    """Where to ask the daemon: a path in a mount, or the mountpoint of a store that is mounted."""
    if mounts.mount_around(place) is not None:
        return place
    store = os.path.realpath(place)
    found = [mount.mountpoint for mount in mounts.mounts() if mount.store == store and not mount.read_only]
    return next((mountpoint for mountpoint in found if not mounts.is_dead(mountpoint)), None)


def _collect_mounted(place: str, dry_run: bool, keep_undo: float | None, tell: Progress) -> dict[str, Any]:
    begun = call(place, "gc", dry_run=dry_run, keep_undo_seconds=keep_undo, wait=False)
    number = begun["number"]
    try:
        while True:
            status = call(place, "gc.status")
            if not status["running"] or status["number"] != number:
                break
            _tell(tell, status["phase"], status["marked_objects"], status["total_objects"])
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        call(place, "gc.stop")
        raise
    result: dict[str, Any] = status["last"]
    if "error" in result:
        raise HeliosError(result["error"])
    return result


def _collect_unmounted(place: str, dry_run: bool, keep_undo: float | None, tell: Progress) -> dict[str, Any]:
    from heliosfs.store.store import Store
    from heliosfs.volume.collection import Report
    from heliosfs.volume.volume import Volume

    path = Path(os.path.realpath(place))
    if not path.is_dir():
        raise HeliosError(f"there is no store and no mount {shown(place)}")
    # Ended by a signal from outside it ends as by Ctrl-C: between two steps.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def step(report: Report) -> None:
        _tell(tell, report.phase, report.marked_objects, report.total_objects)

    store = Store.open(path, create=False)
    try:
        volume = Volume.open(store)
        report = volume.collect_blocking(dry_run=dry_run, keep_undo_seconds=keep_undo, step=step)
        return {**report.as_json(), "dry_run": dry_run}
    finally:
        # What was not flushed is in the journal: the next to open the store finds it there.
        store.close()


def _tell(tell: Progress, phase: str, marked: int, total: int) -> None:
    if phase == "marking":
        tell(phase, marked, max(marked, total))
    else:
        tell(phase, 0, 0)


def _say(result: dict[str, Any], dry_run: bool) -> None:
    dead = f"{result['dead_objects']} of {result['total_objects']} objects, {output.size(result['dead_bytes'])}"
    if dry_run:
        click.echo(f"{dead}: could go")
        return
    click.echo(f"{dead}: gone. The disk has {output.size(result['freed_bytes'])} more")
    if result["disk_full"]:
        click.echo("The disk was too full to rewrite every pack: with more room, run it again.", err=True)

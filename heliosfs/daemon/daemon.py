"""The daemon: opens a store, serves it at a mountpoint, ends in order.

Invariants:
1. The store is opened before anything is mounted, and closed after nothing is mounted any more.
2. However serving ends (unmounted from outside, SIGTERM, SIGINT, a failure), everything that was
   acknowledged is on disk when this process ends without error.
3. A signal that comes while it is closing changes nothing: closing goes on.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from heliosfs.base.errors import HeliosError
from heliosfs.daemon import background, guardian, log, notify
from heliosfs.fuse import tuning
from heliosfs.fuse.options import Options
from heliosfs.fuse.serve import serve
from heliosfs.store.store import Store
from heliosfs.volume.volume import Volume


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one daemon is to do. Paths are absolute: a daemon's working directory is /."""

    store: Path
    mountpoint: str
    options: Options
    foreground: bool = False
    log_level: str = "info"
    base: str = ""


def run(assignment: Assignment, ready: Callable[[], None]) -> None:
    """Serve until unmounted or told to stop. Calls `ready` once the mount can be used."""
    guardian.start(assignment.mountpoint)
    background.raise_file_limit()
    tuning.share_freed_memory()
    volume = _open(assignment)
    try:
        trio.run(_serve, volume, assignment, ready)
    finally:
        _ignore_signals()
        notify.notify(notify.STOPPING)
        volume.close()
    log.log.info("closed %s", assignment.store)


def _open(assignment: Assignment) -> Volume:
    """The volume; closing it closes the store as well."""
    read_only = assignment.options.read_only
    store = Store.open(assignment.store, read_only=read_only, holder=assignment.mountpoint)
    try:
        _begin_log(assignment)
        return Volume.open(store, assignment.base)
    except BaseException:
        store.close()
        raise


def _begin_log(assignment: Assignment) -> None:
    if not assignment.foreground:
        try:
            log.to_files(assignment.store, assignment.log_level)
            return
        except OSError:
            if not assignment.options.read_only:
                raise
            # A store on a medium that cannot be written is served all the same.
    log.to_stderr(assignment.log_level)


async def _serve(volume: Volume, assignment: Assignment, ready: Callable[[], None]) -> None:
    def up() -> None:
        log.log.info("mounted %s at %s, process %d", assignment.store, assignment.mountpoint, os.getpid())
        notify.notify(notify.READY)
        ready()

    failure: HeliosError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        try:
            await serve(volume, assignment.mountpoint, assignment.options, up)
        except HeliosError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        # libfuse says on standard error what it does not tell its caller.
        said = "" if assignment.foreground else log.stderr_tail(assignment.store)
        raise HeliosError(f"{failure} ({said})" if said not in str(failure) else str(failure)) from failure


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.log.info("stopping: %s", signal.Signals(number).name)
            scope.cancel()


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

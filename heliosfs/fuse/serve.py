"""Serve a volume at a mountpoint: puts the parts together, and takes them apart in order.

At the end, however it comes: dirty pages are written back and the mount is gone before the loop stops
answering, so that nobody hangs and nothing acknowledged is missing. Closing the volume is up to whoever
opened it.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pyfuse3
import trio

import heliosfs
from heliosfs.base.clock import now
from heliosfs.base.errors import HeliosError
from heliosfs.fuse import magic, tuning
from heliosfs.fuse.background import BackgroundWork
from heliosfs.fuse.collecting import Collecting
from heliosfs.fuse.commits import GroupCommit
from heliosfs.fuse.control import Control
from heliosfs.fuse.errors import Faults
from heliosfs.fuse.filling import Fillings
from heliosfs.fuse.flushing import Flusher
from heliosfs.fuse.handles import Handles
from heliosfs.fuse.inode_table import FOREVER, USUAL, InodeTable
from heliosfs.fuse.keeping import Notes, Timekeeper
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.loop import Activity, RequestLoop
from heliosfs.fuse.namespace import Namespace
from heliosfs.fuse.numbers import pack
from heliosfs.fuse.operations import Operations
from heliosfs.fuse.options import KNOWN_COPIERS, Options
from heliosfs.fuse.relay import HandshakeFailed
from heliosfs.fuse.room import Room
from heliosfs.fuse.session import Session
from heliosfs.fuse.switching import Switcher
from heliosfs.fuse.trees import Trees
from heliosfs.fuse.upkeep_verbs import UpkeepVerbs
from heliosfs.fuse.verbs import Verbs
from heliosfs.view.inode import Inode
from heliosfs.volume.branch import Branch
from heliosfs.volume.volume import Volume

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.2
BUSY_REQUESTS_PER_TICK: Final = 100
"""Traffic above this is worth keeping processors awake for, where that was asked for."""
IDLE_STEPS_MAX: Final = 16
"""Background steps in a row where the loop cannot run them itself."""
END_SECONDS: Final = 10
"""How long requests in progress may take once the mount is gone from view but still in use."""


async def serve(volume: Volume, mountpoint: str, options: Options, ready: Callable[[], None]) -> None:
    """Mount the volume and serve it until it is unmounted or this is cancelled.

    `ready` is called once the mount can be used. Raises HeliosError when it cannot be mounted.
    """
    mounted = Mounted(volume, mountpoint, options)
    await mounted.run(ready)


class Mounted:
    """One volume at one mountpoint."""

    def __init__(self, volume: Volume, mountpoint: str, options: Options) -> None:
        self.volume = volume
        self.options = options
        self.faults = Faults()
        self.activity = Activity()
        self.background = BackgroundWork(volume, self.faults)
        self.flusher = Flusher(volume, self.faults)
        self.room = Room(volume, self.flusher, self.faults)
        self.latency = tuning.Latency(options.low_latency)
        self.loop = RequestLoop(self.activity, self.background, options.spin_microseconds, self.latency.hold)
        self.session = Session(mountpoint, str(volume.store.path), options)
        self.cache = KernelCache(self.session.mountpoint, self.room.settled)
        self.handles = Handles()
        self.timekeeper = Timekeeper(volume, self.cache, self.faults)
        self.commits = GroupCommit(volume.sync_blocking, self.loop.request_waits)
        self.fillings = Fillings(volume.settle, self.faults)
        self.tuned: dict[str, bool] = {}
        self.started = now()
        branch = _find_branch(volume, options.branch)
        self.trees = Trees(volume, branch)
        timeout = FOREVER if options.long_timeouts else USUAL
        self.table = InodeTable(branch.view.root, volume.generation, self.trees.released, timeout)
        self.switcher = Switcher(self.table, self.handles, self.cache)
        self.collecting = Collecting(
            volume, self.flusher, self.faults, self._served, self.timekeeper.forget_dropped
        )
        self.upkeep = UpkeepVerbs(volume, self.collecting, self.faults)
        self.verbs = Verbs(
            volume, self.trees, self.table, options.acl, self.cache, self.handles, self.switcher, self.commits,
            self.flusher.flush, self.facts, self.statistics, self.upkeep,
        )  # fmt: skip
        self.control = Control(self.verbs, self.faults)
        self.namespace = Namespace(
            volume, self.trees, self.table, self.handles, self.cache, self.fillings, self.control,
            frozenset(map(str.encode, KNOWN_COPIERS + options.copiers)),
        )  # fmt: skip
        self.operations = Operations(
            self.table, self.handles, self.namespace, self.fillings, self.commits, self.faults, self.activity,
            self.room, Notes(volume, self.trees), volume.store, options,
        )  # fmt: skip
        self._nursery: trio.Nursery | None = None
        self._established = trio.Event()
        self._finished = trio.Event()

    def statistics(self) -> dict[str, Any]:
        """Numbers of this floor for `stats`."""
        return {
            "requests": {kind: count for kind, count in self.operations.requests.items() if count},
            "loop": self.loop.statistics(),
            "faults": self.faults.statistics(),
            "background_failures": self.background.failures,
            "flush_failures": self.flusher.failures,
            "collection_failures": self.collecting.failures,
            "inodes_known": len(self.table.known),
            "files_open": len(self.handles.files),
            "directories_open": len(self.handles.directories),
            "waits_for_room": self.room.made,
            "syncs_asked": self.commits.asked,
            "syncs_done": self.commits.done,
            "syncs_done_at_once": self.commits.done_at_once,
        }

    def facts(self) -> dict[str, Any]:
        """What `status` says of the mount as a whole."""
        return {
            "mountpoint": self.session.mountpoint,
            "store": str(self.volume.store.path),
            "version": heliosfs.__version__,
            "pid": os.getpid(),
            "mounted": self.started,
            "read_only": self.options.read_only,
            "features": self.features(),
            "troubles": self.troubles(),
        }

    def troubles(self) -> list[str]:
        """What does not work now and is being tried again, or was found damaged; empty when all is well."""
        found = [
            f"{what}: {cause}"
            for what, cause in (("background work", self.background.failing), ("flush", self.flusher.failing))
            if cause
        ]
        if self.volume.store.is_full():
            found.append("the disk is full: until there is room, only what frees space is done")
        last = self.collecting.last
        if last is not None and "error" in last and not self.collecting.stopped:
            found.append(f"collection: {last['error']}")
        if self.faults.corruptions:
            found.append("damaged content was met: heliosfs fsck names the files")
        if self.faults.mistakes:
            found.append("requests failed by mistakes of HeliosFS: the log has the details")
        return found

    def features(self) -> dict[str, bool]:
        """What makes it fast, and whether it is in effect."""
        return {
            "own_mount": self.session.relay is not None,
            "fast_loop": self.loop.installed,
            "long_timeouts": self.options.long_timeouts,
            "quiet_xattrs": self.options.quiet_xattrs,
            "silent_close": self.options.silent_close,
            "expire_names": self.cache.can_expire_names,
            **({"low_latency": self.latency.available} if self.options.low_latency else {}),
            **self.session.features(),
            **self.tuned,
        }

    def _served(self) -> int:
        """How many requests there have been."""
        return sum(self.operations.requests.values())

    def spawn(self, function: Callable[[], Awaitable[None]]) -> None:
        """Start a task that lives as long as the mount."""
        assert self._nursery is not None
        self._nursery.start_soon(function)

    async def run(self, ready: Callable[[], None]) -> None:
        self.tuned["keep_freed_memory"] = self.options.keep_freed_memory and tuning.keep_freed_memory()
        self.tuned["calm_collector"] = self.options.calm_collector and tuning.calm_collector()
        self.operations.initialized = self._initialized
        try:
            self.session.start(self.operations, self.loop, self._established.set)
        except (OSError, RuntimeError) as error:
            cause = self.session.own_failure or error
            raise HeliosError(f"cannot mount at {self.session.mountpoint}: {cause}") from error
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.fillings.spawn = self.control.spawn = self.upkeep.spawn = self.spawn
                self.operations.attributes_changed = self._root_changed
                nursery.start_soon(self._main)
                nursery.start_soon(self._greet, ready)
                nursery.start_soon(self._tick)
                try:
                    await self._finished.wait()
                finally:
                    await self._end()
                    nursery.cancel_scope.cancel()
        finally:
            self.commits.close()
            self.loop.uninstall()
            self.session.close()

    async def _main(self) -> None:
        """pyfuse3's loop, which goes on while serving is being cancelled, until the mount is gone."""
        with trio.CancelScope(shield=True):
            try:
                await self._handle_requests()
            finally:
                self._finished.set()

    async def _handle_requests(self) -> None:
        failure: HandshakeFailed | None = None
        try:
            await pyfuse3.main()
        except* HandshakeFailed as failures:
            failure = HandshakeFailed(str(failures.exceptions[0]))
        if failure is not None:
            self.session.give_up(failure)
            self.loop.uninstall()
            self.session.start_plain(self.operations, self.loop)
            await pyfuse3.main()

    def _initialized(self) -> None:
        if self.session.relay is None:
            self._established.set()

    async def _greet(self, ready: Callable[[], None]) -> None:
        """Once the kernel and libfuse have agreed."""
        await self._established.wait()
        self.trees.device = self.session.device
        self.cache.probe(self.session.descriptor())
        kilobytes = self.options.read_ahead_kilobytes
        await trio.to_thread.run_sync(_close_once, self.session.mountpoint)
        self.tuned["read_ahead"] = tuning.read_ahead(self.session.device, kilobytes)
        ready()

    async def _tick(self) -> None:
        """What no request triggers. A failure must not end the mount: it is reported, and all is tried again."""
        served = 0
        try:
            while True:
                await trio.sleep(TICK_SECONDS)
                try:
                    await self._see_to_what_is_due()
                except Exception as error:
                    self.faults.errno_of(error, "what is due without a request")
                total = self._served()
                if total - served < BUSY_REQUESTS_PER_TICK:
                    self.latency.release()
                served = total
        finally:
            self.latency.release()

    async def _see_to_what_is_due(self) -> None:
        await self._idle_work()
        if grown := self.volume.taking_in.grown():
            await self.cache.forget(attributes=[pack(*pair) for pair in grown])
        await self.timekeeper.run_if_due()
        await self.flusher.flush_if_due(self._served())
        if self.collecting.due():
            self.spawn(self.collecting.run_by_itself)

    async def _idle_work(self) -> None:
        """Background work that became due without a request, or that the loop cannot run."""
        for _ in range(IDLE_STEPS_MAX):
            if not self.background.pending():
                return
            self.background.step()
            await trio.lowlevel.checkpoint()

    async def _root_changed(self, root: Inode) -> None:
        """Owner or mode of a tree's root: the reserved directories have the same, from now on."""
        numbers = [pack(root.view.number, ino) for ino in magic.ROOT_NAMES.values()]
        numbers += [pack(root.view.number, ino) for ino in magic.MODES]
        await self.cache.forget(attributes=numbers)

    async def _end(self) -> None:
        """Unmount, and let the requests in progress come to their end."""
        with trio.CancelScope(shield=True):
            if self._finished.is_set():
                return
            if self.handles.mappable:
                await self.cache.write_back()
            if await trio.to_thread.run_sync(self.session.unmount):
                with trio.move_on_after(END_SECONDS):
                    await self._finished.wait()
            if not self._finished.is_set():
                self.loop.terminate()
                with trio.move_on_after(END_SECONDS):
                    await self._finished.wait()


def _close_once(mountpoint: str) -> None:
    """Close a file of the mount: the kernel learns from the answer that closing needs no request of its
    own."""
    try:
        os.close(os.open(f"{mountpoint}/.heliosfs/status", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        log.info("no file of the mount could be opened: %s", error)


def _find_branch(volume: Volume, path: str) -> Branch:
    """The branch at a path A/B from the main one."""
    branch = volume.main
    for name in filter(None, path.split("/")):
        child = branch.children.get(name.encode("utf-8", "surrogateescape"))
        if child is None:
            raise HeliosError(f"there is no branch {path!r}; `heliosfs branch list` names those there are")
        branch = child
    return branch

"""Room for writers: what a disk of a given size takes before one of them is told that it is full.

The disk is a number here; tests/mount/test_full_disk.py has real ones.
"""

import errno
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from heliosfs.fuse import kernel_cache
from heliosfs.fuse import room as room_module
from heliosfs.fuse.errors import Faults
from heliosfs.fuse.flushing import Flusher
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.room import Room
from heliosfs.store.store import Store
from heliosfs.view.inode import Caller
from heliosfs.volume.volume import Volume

CALLER = Caller(1000, 1000, 1, b"test")
DISK_BYTES = 96 << 20
PIECE_BYTES = 128 << 10


class Disk:
    """A volume on a disk that has so much room for it."""

    def __init__(self, volume: Volume, monkeypatch: pytest.MonkeyPatch, size: int = DISK_BYTES) -> None:
        self.volume = volume
        self.size = size
        faults = Faults()
        self.room = Room(volume, Flusher(volume, faults), faults)
        self.made = 0
        self._random = random.Random(1)
        monkeypatch.setattr(volume.store, "free_for_writers", self.free)

    def used(self) -> int:
        return self.volume.stored_bytes()

    def free(self) -> int:
        return self.size - self.used()

    async def write(self, name: bytes, size: int, *, close: bool = True) -> None:
        """As a mount does. OSError when the disk is full."""
        view = self.volume.main.view
        inode = view.make(view.root, name, 0o100644, CALLER)
        for offset in range(0, size, PIECE_BYTES):
            if self.volume.engine.journal.head >= self.room.look_at and self.room.is_short():
                await self.room.make()
            if self.free() < PIECE_BYTES:
                raise OSError(errno.ENOSPC, "full")
            view.write(inode, offset, self._random.randbytes(PIECE_BYTES))
            self.made += PIECE_BYTES
        if close:
            view.closed(inode)

    async def fill(self, size: int, *, close: bool = True) -> None:
        for number in range(1000):
            try:
                await self.write(b"%d" % number, size, close=close)
            except OSError:
                return
        raise AssertionError("the disk did not get full")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    volume = Volume.open(Store.open(tmp_path / "store"))
    yield volume
    volume.close()


@pytest.mark.parametrize(("size", "close"), [(1 << 20, True), (1 << 20, False), (DISK_BYTES * 2, False)])
def test_a_disk_is_full_when_its_contents_fill_it(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, size: int, close: bool
) -> None:
    """Nothing is cut but by writers that wait: they are as fast as can be."""
    disk = Disk(volume, monkeypatch)
    trio.run(lambda: disk.fill(size, close=close))
    assert disk.made > DISK_BYTES * 9 // 10
    assert not volume.store.reserve_used


def test_it_takes_more_than_its_size_of_what_can_be_compressed(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(volume, monkeypatch)
    monkeypatch.setattr(disk._random, "randbytes", lambda size: bytes(size))
    trio.run(lambda: disk.write(b"a", 3 * DISK_BYTES))
    assert disk.made == 3 * DISK_BYTES


def test_where_there_is_much_room_nobody_waits(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(volume, monkeypatch, size=1 << 40)
    trio.run(lambda: disk.write(b"a", 200 << 20))
    assert disk.room.made == 0 and volume.flushes == 0
    assert disk.room.look_at > volume.engine.journal.head


def test_nobody_waits_where_the_reserve_would_be_needed(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on a full disk nor on one whose reserve is given away."""
    disk = Disk(volume, monkeypatch, size=room_module.MARGIN_BYTES - 1)
    trio.run(lambda: disk.fill(1 << 20))
    assert disk.room.made == 0 and volume.flushes == 0


def test_one_at_a_time_makes_room_for_all(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(volume, monkeypatch)

    async def run() -> None:
        await disk.write(b"a", 30 << 20)
        disk.room.look_at = 0
        disk.size = disk.used() + (40 << 20)
        assert disk.room.is_short()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(disk.room.make)

    trio.run(run)
    assert disk.room.made == 1 and volume.flushes == 2, "a part was cut and flushed to have room for the rest"
    assert volume.engine.journal.size() < 1000, "nothing points into it any more"


def test_a_flush_that_fails_lets_the_writer_go_on(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(volume, monkeypatch)

    def fails() -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(volume.store.objects, "sync", fails)
    trio.run(lambda: disk.fill(1 << 20))
    assert disk.room.made and volume.flushes == 0
    monkeypatch.undo()
    volume.flush()


def test_dirty_pages_are_written_back_when_their_writers_have_room(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such a write is in no queue any more, and not in the tree yet."""
    disk = Disk(volume, monkeypatch)
    cache = KernelCache(str(tmp_path), disk.room.settled)
    monkeypatch.setattr(kernel_cache, "_sync_filesystem", lambda mountpoint: None)
    done: list[int] = []

    async def write(number: int) -> None:
        await disk.room.make()
        done.append(number)

    async def run() -> None:
        await disk.write(b"a", 2 << 20)
        disk.room.look_at = 0
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(write, number)
            await trio.testing.wait_all_tasks_blocked()
            await cache.write_back()
            assert sorted(done) == [0, 1, 2]

    queue, other = socket.socketpair()
    with queue, other:
        monkeypatch.setattr(cache, "_descriptor", queue.fileno())
        trio.run(run)
    assert disk.room.made == 1

"""What the tests of the store share: damage, a full disk, a flush as the volume does it."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heliosfs.store.journal import Journal, Record
from heliosfs.store.store import Store


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit of a file in place."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ 1 << bit,)))


def replayed(directory: Path, start: int = 0, segment_bytes: int = 1 << 20) -> tuple[Journal, list[Record]]:
    """A journal opened and replayed, and what it held."""
    journal = Journal(directory, segment_bytes=segment_bytes)
    return journal, list(journal.replay(start))


def flush(store: Store) -> int:
    """A flush in the volume's order; returns the bytes of packs freed."""
    store.journal.sync()
    store.objects.sync()
    batch = store.database.batch()
    store.objects.write_index(batch)
    store.database.write(batch)
    removable = store.objects.removable_packs()
    store.database.sync()
    return store.objects.remove_packs(removable)


def exhaust(steps: Iterator[None]) -> int:
    """Run background work to its end; returns the number of steps."""
    return sum(1 for _ in steps)


def journal_sizes(journal: Journal) -> dict[str, int]:
    """How much of each of its files is written by now; the last one is longer."""
    segments = journal._segments
    return {segments.path(number).name: segments.size(number) for number in segments.numbers()}


def copy_live(source: Path, target: Path) -> None:
    """Copy an open store as a kill at this moment would leave it.

    RocksDB's own threads make and remove files: what was copied while they did is none of its states.
    """
    while True:
        before = sorted(os.listdir(source / "db"))
        try:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("reserve"))
        except shutil.Error:
            pass
        else:
            if sorted(os.listdir(source / "db")) == before:
                return
        shutil.rmtree(target)


Writer = Callable[[int, list[bytes], int], int]


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> Iterator[None]:
    """Let positioned writes store `room` more bytes, then say that the disk is full."""
    left = [room]
    pwrite = os.pwrite

    def limited(descriptor: int, data: bytes, offset: int) -> int:
        if data and not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = pwrite(descriptor, bytes(data)[: left[0]], offset)
        left[0] -= written
        return written

    def limited_vector(descriptor: int, buffers: list[bytes], offset: int) -> int:
        return limited(descriptor, b"".join(buffers), offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", limited)
        patch.setattr(os, "pwritev", limited_vector)
        yield

"""A cut at every place of the journal: what comes up is the state after some record, whole.

The store is copied as a power cut or a kill could leave it: the journal ends there, in the middle of a record, or
has a hole before its end. The state must be the one after the last whole record before that, in names, data,
snapshots and branches alike.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from heliosfs.store.journal import OFFSET_BITS, OFFSET_MASK
from heliosfs.store.store import Store
from heliosfs.view.view import View
from heliosfs.volume.volume import Volume
from tests.store.support import copy_live
from tests.volume.conftest import CALLER

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
S_IFREG, S_IFDIR = 0o100000, 0o040000


def describe(view: View, ino: int = 1) -> object:
    """Everything one can see of a tree."""
    inode = view.inode(ino)
    fields = (inode.mode, inode.nlink, inode.size, inode.allocated, inode.mtime)
    if inode.is_directory:
        return fields, {name: describe(view, child) for name, child, _ in view.entries(inode)}
    return fields, bytes(view.read(inode, 0, inode.size))


def describe_volume(volume: Volume) -> object:
    return {
        branch.id: (
            branch.name,
            describe(branch.view),
            {name: describe(volume.view_of(snapshot)) for name, snapshot in branch.snapshots.items()},
        )
        for branch in volume.registry.branches.values()
    }


def operations(volume: Volume, seed: int) -> list[Callable[[], object]]:
    """A workload in which every call appends exactly one record."""
    chance = random.Random(seed)
    main = volume.main
    view = main.view

    def a_file(view: View) -> object:
        return next((view.inode(ino) for _, ino, kind in view.entries(view.root) if kind == 8), None)

    def make(number: int) -> Callable[[], object]:
        kind = S_IFDIR if number % 5 == 4 else S_IFREG
        return lambda: view.make(view.root, b"f%d" % number, kind | 0o644, CALLER)

    def write(offset: int, length: int) -> Callable[[], object]:
        return lambda: view.write(a_file(view), offset, chance.randbytes(length))  # type: ignore[arg-type]

    calls: list[Callable[[], object]] = [make(0), make(1)]
    for number in range(2, 10):
        calls += [
            make(number),
            write(chance.randrange(3000), chance.choice([10, 3000])),
            lambda number=number: volume.snapshot(main, b"s%d" % number, CALLER),
            write(chance.randrange(3000), 100),
            lambda: view.set_attributes(a_file(view), size=chance.randrange(4000)),  # type: ignore[arg-type]
            lambda number=number: view.rename(view.root, b"f%d" % number, view.root, b"f%d" % (number - 1))
            if number % 5 not in (4, 0)
            else view.set_xattr(view.root, b"user.n", b"%d" % number),
        ]
        if number % 4 == 0:
            calls.append(lambda number=number: volume.fork(main, b"b%d" % number, CALLER))
        if number % 4 == 1:
            calls.append(lambda number=number: volume.restore(main, f"s{number}", CALLER))
        if number % 4 == 3:
            calls.append(lambda: volume.undo(main, CALLER))
    return calls


def reopened(copy: Path, twice: bool = True) -> object:
    volume = Volume.open(Store.open(copy))
    found = describe_volume(volume)
    if twice:
        volume.close()
        volume = Volume.open(Store.open(copy))
        assert describe_volume(volume) == found, "what comes up is the same after a clean close"
    volume.store.close()
    return found


@pytest.mark.parametrize("flush_at", [None, 20])
def test_a_cut_at_every_record(tmp_path: Path, flush_at: int | None) -> None:
    tmp_path = Path(tempfile.mkdtemp(dir=MEMORY)) if MEMORY else tmp_path
    chance = random.Random(1)
    volume = Volume.open(Store.open(tmp_path / "store"))
    heads = [(volume.engine.journal.head, describe_volume(volume))]
    for index, call in enumerate(operations(volume, 7)):
        call()
        heads.append((volume.engine.journal.head, describe_volume(volume)))
        if index == flush_at:
            while volume.dirty():
                volume.step()
            volume.flush()
            heads = heads[-1:]
        if index % 9 == 0:
            for _ in range(20):
                if volume.dirty():
                    volume.step()
    for (start, state), (end, _) in pairwise(heads):
        assert start >> OFFSET_BITS == end >> OFFSET_BITS
        for how in ("end", "torn", "hole"):
            copy = tmp_path / "copy"
            copy_live(volume.store.path, copy)
            segment = copy / "journal" / f"{start >> OFFSET_BITS:010d}"
            low, high = start & OFFSET_MASK, end & OFFSET_MASK
            if how == "hole":
                with open(segment, "r+b") as file:
                    at = chance.randrange(low, high)
                    file.seek(at)
                    byte = file.read(1)
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 0x41]))
            else:
                with open(segment, "r+b") as file:
                    file.truncate(low if how == "end" else chance.randrange(low + 1, high))
            assert reopened(copy, twice=low % 5 == 0) == state, (how, hex(start))
            shutil.rmtree(copy)
    volume.close()
    assert reopened(tmp_path / "store") == heads[-1][1]
    if MEMORY:
        shutil.rmtree(tmp_path)

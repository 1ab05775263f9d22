"""An existing directory as the beginning of a volume: shown at once, taken in when it is touched and in the background.

The bottom layer of the volume stands for the directory. It says of every file that is known so far that its bytes are
in the base, and of every directory whether its entries are still to be read there; reading them adds records to this
layer, below all states, so every state has them and with the same inode numbers. Bytes are taken in as the cutter does
it: they become objects, and what a state says of them stays the same.

Invariants:
  1. The layer of the base says what the directory had when it was read, and never anything else.
  2. It is sealed, and is then a layer like any other, once no layer says of anything that it is in the base and the
     database knows that.
"""

import errno
import logging
import os
from collections import deque
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Any

import msgspec

from heliosfs.base.errors import Corruption, Refusal
from heliosfs.base.keys import ENTRY, EXTENT, INODE, LINK, ROOT_INO, SYMLINK, XATTR, link_suffix
from heliosfs.base.records import BASE, ENTRY_TYPE_BITS, encode_inode, entry
from heliosfs.layers import stack
from heliosfs.layers.delta import FRESH, MADE, Change, is_unread
from heliosfs.layers.layer import Layer
from heliosfs.layers.replay import BATCH, encode
from heliosfs.view.base_directory import BaseDirectory, Found
from heliosfs.view.cutter import take_in
from heliosfs.view.names import DIRECTORY_BYTES
from heliosfs.volume.path_restore import RESERVED
from heliosfs.volume.refs import BASE_KEY, BaseRecord
from heliosfs.volume.refs import encode as encode_ref
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction

_log = logging.getLogger(__name__)


class TakingIn:
    """What a volume takes in from its base. Without one there is nothing to do."""

    def __init__(self, registry: Registry, read_only: bool) -> None:
        self._registry = registry
        self._read_only = read_only
        self._failed: set[tuple[int, int]] = set()
        """(layer id, inode number) of what cannot be taken in."""
        self._pending: deque[tuple[Layer, int]] = deque()

    def begin(self) -> None:
        """After the refs are known: let the layer of the base read what is still to be read."""
        record = self._registry.base
        if record is None or record.done:
            self._end()
            return
        if self._registry.engine.base is not None:
            return
        self._registry.engine.base = BaseDirectory(record.directory)
        self._layer(record).lister = self._list

    def _layer(self, record: BaseRecord) -> Layer:
        layer = self._registry.layers.get(record.layer)
        if layer is None:
            raise Corruption("ref", f"layer {record.layer} of the base, which is missing")
        return layer

    def make_root(self) -> None:
        """The root directory of a volume that begins with a base."""
        engine, record = self._registry.engine, self._registry.base
        assert engine.base is not None and record is not None
        found = engine.base.root()
        layer = self._layer(record)
        changes: list[Change] = [(ROOT_INO, FRESH, b"", MADE), *_records(ROOT_INO, found)]
        engine.journal.append(BATCH, encode((layer.id, changes)))
        layer.apply(changes)

    def _list(self, ino: int) -> None:
        """Read the entries of a directory, unless that was done."""
        record = self._registry.base
        if record is None or record.done:
            return
        layer = self._layer(record)
        if ino not in layer.based or not is_unread(layer.deltas[ino]):
            return
        if self._read_only:
            raise Refusal(errno.EROFS, "this directory of the base was not taken in yet: mount for writing")
        engine = self._registry.engine
        assert engine.base is not None
        changes: list[Change] = []
        for found in engine.base.list(_source(layer, ino)):
            if ino == ROOT_INO and found.name in RESERVED:
                continue
            child = engine.allocate_ino()
            changes.append((child, FRESH, b"", MADE))
            changes += _records(child, found)
            changes.append((child, LINK, link_suffix(ino, found.name), b""))
            changes.append((ino, ENTRY, found.name, entry(child, found.stat.st_mode)))
        changes.append((ino, EXTENT, 0, None))
        engine.journal.append(BATCH, encode((layer.id, changes)))
        layer.apply(changes)

    def needed(self) -> bool:
        """Whether there is a base that is still needed."""
        return self._registry.engine.base is not None

    def dirty(self) -> bool:
        """Whether `step` has anything to do."""
        base = self._registry.engine.base
        return base is not None and not self._read_only and self._find() is not None

    def step(self) -> None:
        """Read a directory, or take in a piece of a file."""
        work = self._find()
        if work is None:
            return
        layer, ino = work
        try:
            self._take(layer, ino)
        except (Refusal, Corruption) as error:
            _log.warning("%s", error)
            self._failed.add((layer.id, ino))

    def complete(self) -> bool:
        """Whether nothing is in the base any more. A flush has to follow, and then `finish`: what is not in the
        database is taken in again after a kill."""
        if self._registry.engine.base is None:
            return False
        return not any(layer.based for layer in self._registry.layers.values())

    def _take(self, layer: Layer, ino: int) -> bool:
        """A piece of one inode; whether more is left."""
        if is_unread(layer.deltas[ino]):
            self._list(ino)
            return False
        return take_in(self._registry.engine, layer, ino)

    def _find(self) -> tuple[Layer, int] | None:
        """What is next: what somebody reads, then the rest."""
        record, base = self._registry.base, self._registry.engine.base
        assert record is not None and base is not None
        bottom = self._layer(record)
        while base.wanted:
            if self._can_take(bottom, base.wanted[0]):
                return bottom, base.wanted[0]
            base.wanted.popleft()
        while self._pending:
            if self._can_take(*self._pending[0]):
                return self._pending[0]
            self._pending.popleft()
        left = [layer for layer in self._registry.layers.values() if layer.based]
        if sum(len(layer.based) for layer in left) == len(self._failed):
            return None
        self._pending.extend((layer, ino) for layer in left for ino in layer.based if self._can_take(layer, ino))
        return self._pending[0] if self._pending else None

    def _can_take(self, layer: Layer, ino: int) -> bool:
        return ino in layer.based and (layer.id, ino) not in self._failed

    def take(self, paths: list[bytes]) -> None:
        """Take in at once all that the base has at or below some paths."""
        record = self._registry.base
        assert record is not None
        layer = self._layer(record)
        pending = [ino for path in paths if (ino := self._find_path(layer, path))]
        while pending:
            ino = pending.pop()
            below = stack.entries(self._registry.engine.tree, layer, ino)
            pending += [child >> ENTRY_TYPE_BITS for child in below.values()]
            while ino in layer.based and self._take(layer, ino):
                pass

    def _find_path(self, layer: Layer, path: bytes) -> int:
        """The inode number at a path of the base, or 0."""
        ino = ROOT_INO
        for name in path.split(b"/"):
            if name not in (b"", b"."):
                child = stack.find_entry(self._registry.engine.tree, layer, ino, name)
                if child is None:
                    return 0
                ino = child >> ENTRY_TYPE_BITS
        return ino

    def finish(self) -> None:
        """After a flush that began when all was taken in: let the base go."""
        registry, record = self._registry, self._registry.base
        assert record is not None
        transaction = Transaction(registry)
        transaction.set(BASE_KEY, encode_ref(msgspec.structs.replace(record, done=True)))
        transaction.commit()
        self._end()
        _log.info("all of the base %s has been taken in: it is no longer needed", record.directory)

    def _end(self) -> None:
        """Nothing is to be read any more."""
        registry = self._registry
        for layer in registry.layers.values():
            layer.lister = None
        if registry.engine.base is not None:
            registry.engine.base.close()
            registry.engine.base = None

    def status(self) -> dict[str, Any] | None:
        """How far it is, for `status`."""
        record, base = self._registry.base, self._registry.engine.base
        if record is None:
            return None
        shown_as: dict[str, Any] = {"directory": record.directory, "needed": not record.done}
        if record.done or base is None:
            return shown_as
        layer = self._layer(record)
        directories = files = size = 0
        for ino in layer.based:
            if is_unread(layer.deltas[ino]):
                directories += 1
            else:
                files += 1
                size += _left(layer, ino)
        changed = {os.fsdecode(path): why for path, why in sorted(base.changed.items())}
        return {
            **shown_as, "directories_left": directories, "files_left": files, "left_bytes": size, "changed": changed,
        }  # fmt: skip


def _records(ino: int, found: Found) -> list[Change]:
    """The records of something in the base, without those of its name."""
    stat = found.stat
    size = allocated = 0
    changes: list[Change] = [(ino, XATTR, name, value) for name, value in found.xattrs]
    if S_ISDIR(stat.st_mode):
        size = DIRECTORY_BYTES
        changes.append((ino, EXTENT, 0, (1, BASE, found.source, 0)))
    elif S_ISLNK(stat.st_mode):
        size = len(found.target)
        changes.append((ino, SYMLINK, b"", found.target))
    elif S_ISREG(stat.st_mode):
        size = allocated = stat.st_size
        if size:
            changes.append((ino, EXTENT, 0, (size, BASE, found.source, 0)))
    times = (stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns)
    rdev = 0 if S_ISDIR(stat.st_mode) or S_ISREG(stat.st_mode) or S_ISLNK(stat.st_mode) else stat.st_rdev
    fields = (stat.st_mode, stat.st_uid, stat.st_gid, found.links, size, allocated, *times, rdev)
    changes.append((ino, INODE, b"", encode_inode(fields)))
    return changes


def _source(layer: Layer, ino: int) -> bytes:
    """How a directory was."""
    extents = layer.deltas[ino].extents
    assert extents is not None
    source = extents.pieces[0][2]
    assert isinstance(source, bytes)
    return source


def _left(layer: Layer, ino: int) -> int:
    extents = layer.deltas[ino].extents
    return sum(end - start for start, end, kind, _, _ in extents.extents() if kind == BASE) if extents else 0


"""An existing directory as the beginning of a volume: shown at once, taken in when it is touched and in the background.

The bottom layer of the volume stands for the directory. It says of every file that is known so far that its bytes are
in the base, and of every directory whether its entries are still to be read there; reading them adds records to this
layer, below all states, so every state has them and with the same inode numbers. Bytes are taken in as the cutter does
it: they become objects, and what a state says of them stays the same.

Work goes from directory to directory, and takes in the bytes of files whenever enough of those are known: so what is
known of the base and not yet taken in stays little, however large that is. What is done is moved on: see `settling`.

Invariants:
  1. The layer of the base, with the sealed one below it, says what the directory had when it was read, and never
     anything else.
  2. It is sealed, and is then a layer like any other, once no layer says of anything that it is in the base and the
     database knows that.
"""

import logging
import os
from collections import deque
from collections.abc import Generator
from errno import EROFS
from time import perf_counter_ns
from typing import Any

import msgspec

from heliosfs.base.errors import Corruption, Refusal
from heliosfs.base.keys import ROOT_INO
from heliosfs.base.records import BASE, ENTRY_TYPE_BITS, decode_inode
from heliosfs.layers import stack
from heliosfs.layers.delta import FRESH, MADE, Change, is_unread
from heliosfs.layers.layer import Layer
from heliosfs.layers.replay import BATCH, encode
from heliosfs.view.base_directory import BaseDirectory
from heliosfs.view.cutter import take_in
from heliosfs.volume.base_listing import HardLinks, Listing, records
from heliosfs.volume.path_restore import RESERVED
from heliosfs.volume.refs import BASE_KEY, BaseRecord
from heliosfs.volume.refs import encode as encode_ref
from heliosfs.volume.registry import Registry
from heliosfs.volume.settling import Settling
from heliosfs.volume.transaction import Transaction

_log = logging.getLogger(__name__)

STEP_NANOSECONDS = 1_500_000
"""A step takes in small files for so long."""

FILES_AHEAD = 2000
"""So many files are known before their bytes are taken in: then no directory is read until they are."""


class _Work:
    """What is left to do of a base, as far as it is known."""

    def __init__(self, registry: Registry, layer: Layer) -> None:
        self.directories: list[int] = []
        """Unread; the last one is next, so that few are known at a time."""
        self.files: deque[int] = deque()
        self.elsewhere: deque[tuple[Layer, int]] = deque()
        """Files whose bytes other layers have from the base."""
        self.failed: set[tuple[int, int]] = set()
        """(layer id, inode number) of what cannot be taken in."""
        self.links = HardLinks(registry, layer)
        self.settling = Settling(registry.engine.tree, layer)
        self.listing: tuple[Listing, Generator[None, None, None]] | None = None
        """The directory that is being read in the background."""
        self.filling = False
        """Files are taken in until there are none."""


class TakingIn:
    """What a volume takes in from its base. Without one there is nothing to do."""

    def __init__(self, registry: Registry, read_only: bool) -> None:
        self._registry = registry
        self._read_only = read_only
        self._known: _Work | None = None
        self._looked = -1
        """The head of the journal when all layers were last looked through."""

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

    @property
    def _bottom(self) -> Layer:
        record = self._registry.base
        assert record is not None
        return self._layer(record)

    @property
    def _base(self) -> BaseDirectory:
        base = self._registry.engine.base
        assert base is not None
        return base

    def make_root(self) -> None:
        """The root directory of a volume that begins with a base."""
        found = self._base.root(RESERVED)
        layer = self._bottom
        changes: list[Change] = [(ROOT_INO, FRESH, b"", MADE), *records(ROOT_INO, found)]
        self._registry.engine.journal.append(BATCH, encode((layer.id, changes)))
        layer.apply(changes)

    @property
    def _work(self) -> _Work:
        """What is known to be left. When the volume was opened anew, that is found in the layer."""
        if self._known is None:
            layer = self._bottom
            work = self._known = _Work(self._registry, layer)
            for ino, delta in layer.deltas.items():
                if ino not in layer.based:
                    work.settling.add([ino])
                elif is_unread(delta):
                    work.directories.append(ino)
                else:
                    assert delta.extents is not None and delta.inode is not None
                    source = next(piece[2] for piece in delta.extents.pieces if piece[1] == BASE)
                    assert isinstance(source, bytes)
                    work.links.remember(source, ino, tuple(decode_inode(delta.inode)))
                    if ino not in work.links.held:
                        work.files.append(ino)
        return self._known

    # Directories

    def _list(self, ino: int) -> None:
        """Read the entries of a directory to the end, unless that was done."""
        layer = self._bottom
        if ino not in layer.based or not is_unread(layer.deltas[ino]):
            return
        if self._read_only:
            raise Refusal(EROFS, "this directory of the base was not taken in yet: mount for writing")
        work = self._work
        if work.listing is not None and work.listing[0].ino == ino:
            running, work.listing = work.listing, None
        else:
            running = self._open(ino)
        try:
            while self._advance(running):
                pass
        except BaseException:
            work.directories.append(ino)
            raise

    def _open(self, ino: int) -> tuple[Listing, Generator[None, None, None]]:
        listing = Listing(self._registry, self._bottom, ino, self._work.links)
        return listing, listing.run(self._base, _source(self._bottom, ino))

    def _advance(self, running: tuple[Listing, Generator[None, None, None]]) -> bool:
        """A piece of a directory; whether more is left."""
        work, (listing, steps) = self._work, running
        try:
            next(steps)
            return True
        except StopIteration:
            return False
        except OSError:
            # The journal is full: what it does not have, no name may count.
            self._release(work.links.forget())
            raise
        finally:
            work.directories += listing.directories
            work.files += listing.files
            work.settling.add(listing.done)
            listing.directories, listing.files, listing.done = [], [], []

    def _release(self, inos: set[int]) -> None:
        """Files that were held back, in case more names of them come."""
        work, layer = self._work, self._bottom
        work.files += [ino for ino in inos if ino in layer.based]
        work.settling.add([ino for ino in inos if ino not in layer.based])

    # In the background

    def needed(self) -> bool:
        """Whether there is a base that is still needed."""
        return self._registry.engine.base is not None

    def dirty(self) -> bool:
        """Whether `step` has anything to do."""
        if self._registry.engine.base is None or self._read_only:
            return False
        work = self._work
        if work.listing is not None or work.directories or work.files or work.elsewhere or work.links.held:
            return True
        return bool(self._base.wanted) or (work.settling.due(idle=True) and self._is_idle()) or self._look_around()

    def step(self) -> None:
        """A bounded piece of work."""
        until = perf_counter_ns() + STEP_NANOSECONDS
        while self._one() and perf_counter_ns() < until:
            pass

    def _one(self) -> bool:
        """Move on what is done, read a piece of a directory, or take in a piece of a file; whether there was any."""
        work, wanted = self._work, self._base.wanted
        if work.settling.due(idle=False):
            work.settling.step()
        elif wanted:
            if not self._take_piece(self._bottom, wanted[0], held=work.links.held):
                wanted.popleft()
        elif work.files and (work.filling or len(work.files) >= FILES_AHEAD):
            work.filling = True
            if not self._take_piece(self._bottom, work.files[0]):
                work.files.popleft()
        elif work.listing is not None or work.directories:
            work.filling = False
            self._read_directory()
        elif work.files or work.links.held:
            # All directories were read, so no more names will come.
            work.filling = True
            self._release(work.links.forget())
        elif work.elsewhere:
            if not self._take_piece(*work.elsewhere[0]):
                work.elsewhere.popleft()
        elif work.settling.due(idle=True) and self._is_idle():
            work.settling.step()
        else:
            return self._look_around()
        return True

    def _read_directory(self) -> None:
        work, layer = self._work, self._bottom
        if work.listing is None:
            ino = work.directories.pop()
            if ino in layer.based and is_unread(layer.deltas[ino]) and (layer.id, ino) not in work.failed:
                work.listing = self._open(ino)
            return
        ino = work.listing[0].ino
        try:
            if not self._advance(work.listing):
                work.listing = None
        except (Refusal, Corruption) as error:
            work.listing = None
            self._fail(layer, ino, error)
        except OSError:
            work.listing = None
            work.directories.append(ino)
            raise

    def _take_piece(self, layer: Layer, ino: int, held: set[int] | frozenset[int] = frozenset()) -> bool:
        """Take in a piece of a file, if it is to be and can be; whether more is left."""
        failed = self._work.failed
        if ino not in layer.based or (layer.id, ino) in failed or ino in held or is_unread(layer.deltas[ino]):
            return False
        try:
            more = take_in(self._registry.engine, layer, ino)
        except (Refusal, Corruption) as error:
            self._fail(layer, ino, error)
            return False
        if not more and layer is self._bottom:
            self._taken(ino)
        return more

    def _taken(self, ino: int) -> None:
        if ino not in self._work.links.held:
            self._work.settling.add([ino])

    def _fail(self, layer: Layer, ino: int, error: Exception) -> None:
        _log.warning("%s", error)
        self._work.failed.add((layer.id, ino))

    def _is_idle(self) -> bool:
        """Whether all is done that can be. Then what remains is moved on, unless nothing at all is left: then the layer
        is sealed as a whole."""
        return not self.complete()

    def _look_around(self) -> bool:
        """Look for what other layers have from the base; whether there was anything."""
        head = self._registry.engine.journal.head
        if head == self._looked:
            return False
        self._looked = head
        work = self._work
        layers = [layer for layer in self._registry.layers.values() if layer.based]
        if sum(len(layer.based) for layer in layers) == len(work.failed):
            return False
        work.failed &= {(layer.id, ino) for layer in layers for ino in layer.based}
        work.elsewhere += [
            (layer, ino)
            for layer in layers
            for ino in layer.based
            if (layer.id, ino) not in work.failed and not is_unread(layer.deltas[ino])
        ]
        return bool(work.elsewhere)

    def grown(self) -> list[tuple[int, int]]:
        """(view number, inode number) of files of which more names were found, since this was last asked."""
        if self._known is None:
            return []
        found, self._known.links.grown = self._known.links.grown, []
        return found

    def pause(self) -> None:
        """A collection begins to mark."""
        if self._registry.engine.base is not None and not self._read_only:
            self._work.settling.pause()

    def go_on(self) -> None:
        """It has ended."""
        if self._known is not None:
            self._known.settling.paused = False

    def complete(self) -> bool:
        """Whether nothing is in the base any more. A flush has to follow, and then `finish`: what is not in the
        database is taken in again after a kill."""
        if self._registry.engine.base is None:
            return False
        return not any(layer.based for layer in self._registry.layers.values())

    def take(self, paths: list[bytes]) -> Generator[None, None, None]:
        """Take in all that the base has at or below some paths, in steps."""
        layer = self._bottom
        pending = [ino for path in paths if (ino := self._find_path(layer, path))]
        while pending:
            ino = pending.pop()
            below = stack.entries(self._registry.engine.tree, layer, ino)
            pending += [child >> ENTRY_TYPE_BITS for child in below.values()]
            yield
            while ino in layer.based:
                if not take_in(self._registry.engine, layer, ino):
                    self._taken(ino)
                yield

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
        registry, self._known = self._registry, None
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


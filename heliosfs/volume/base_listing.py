"""Reading a directory of a base into the layer of the base: its entries get inode numbers and records, in pieces.

Invariants:
  1. A piece is one record of the journal. A directory of which only some pieces are in counts as unread, so whoever
     looks into it has the rest read first; pieces that are in keep their inode numbers.
  2. The names of a file that has several lead to one inode if nobody has changed that inode in any state before the
     next name is met: states hold its link count. Otherwise the next name is a file of its own.
  3. Link counts are those of the names that are known, at every moment.
"""

from collections.abc import Generator
from stat import S_ISDIR, S_ISLNK, S_ISREG

from heliosfs.base.keys import ENTRY, EXTENT, INODE, LINK, ROOT_INO, SYMLINK, XATTR, link_suffix
from heliosfs.base.limits import LINKS_MAX
from heliosfs.base.records import BASE, encode_inode, entry
from heliosfs.layers.delta import FRESH, MADE, Change
from heliosfs.layers.layer import Layer
from heliosfs.layers.replay import BATCH, encode
from heliosfs.view.base_directory import BaseDirectory, Found, decode_source
from heliosfs.view.names import DIRECTORY_BYTES
from heliosfs.volume.path_restore import RESERVED
from heliosfs.volume.registry import Registry

_Identity = tuple[int, int, int, int]
"""What names of one file have in common: inode number, size, times of modification and change."""


class _Linked:
    """A file with several names, some of which were not met yet."""

    def __init__(self, ino: int, device: int, fields: tuple[int, ...], names: int) -> None:
        self.ino = ino
        self.device = device
        """0 when that is not known any more."""
        self.fields = fields
        self.names = names
        """How many it has in the base."""

    @property
    def links(self) -> int:
        """How many are known."""
        return self.fields[3]


class HardLinks:
    """The files of a base of which not all names were met yet, by what is the same for all names."""

    def __init__(self, registry: Registry, layer: Layer) -> None:
        self._registry = registry
        self._layer = layer
        self._files: dict[_Identity, _Linked] = {}
        self.held: set[int] = set()
        """Their inode numbers. What the layer says of them is not final."""
        self.grown: list[tuple[int, int]] = []
        """(view number, inode number) of what somebody knows with fewer names."""

    def remember(self, source: bytes, ino: int, fields: tuple[int, ...], device: int = 0) -> None:
        """A name of a file was met; it matters if that has more."""
        was = decode_source(source)
        if was.links > fields[3]:
            self._files[was.ino, was.size, was.mtime, was.ctime] = _Linked(ino, device, fields, was.links)
            self.held.add(ino)

    def next_name(self, found: Found) -> _Linked | None:
        """The file whose next name was found, if it can have that; its link count has grown then."""
        stat = found.stat
        if stat.st_nlink == 1:
            return None
        identity = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        file = self._files.get(identity)
        if file is None or file.device not in (0, stat.st_dev) or file.links >= LINKS_MAX:
            return None
        layers = self._registry.layers.values()
        if any(file.ino in layer.deltas for layer in layers if layer is not self._layer):
            return None
        file.fields = (*file.fields[:3], file.links + 1, *file.fields[4:])
        if file.links == file.names:
            del self._files[identity]
        return file

    def settle(self, file: _Linked) -> bool:
        """After the name is in: whether it was the last one."""
        for view in (*self._registry.views.values(), *self._registry.drafts):
            inode = view.inodes.get(file.ino)
            if inode is not None:
                inode.nlink = file.links
                inode.attributes = None
                self.grown.append((view.number, file.ino))
        if file.links == file.names:
            self.held.discard(file.ino)
            return True
        return False

    def forget(self) -> set[int]:
        """No more names will be met, or the next ones are to be files of their own; the files that were held."""
        held, self.held = self.held, set()
        self._files.clear()
        return held


class Listing:
    """One directory that is being read."""

    def __init__(self, registry: Registry, layer: Layer, ino: int, links: HardLinks) -> None:
        self.ino = ino
        self.directories: list[int] = []
        """Those found since somebody looked here last; likewise the files with bytes to take in, and what has none."""
        self.files: list[int] = []
        self.done: list[int] = []
        self._registry = registry
        self._layer = layer
        self._links = links

    def run(self, base: BaseDirectory, source: bytes) -> Generator[None, None, None]:
        """Read it, in steps. Refused when it has changed or cannot be read."""
        engine, layer = self._registry.engine, self._layer
        known = set(layer.deltas[self.ino].entries or ())
        for piece, is_last in base.pieces(source, known):
            changes: list[Change] = []
            linked: list[_Linked] = []
            for found in piece:
                if self.ino == ROOT_INO and found.name in RESERVED:
                    continue
                file = self._links.next_name(found)
                if file is None:
                    changes += self._new(found)
                else:
                    changes.append((file.ino, INODE, b"", encode_inode(file.fields)))
                    changes += self._name(file.ino, found)
                    linked.append(file)
            if is_last:
                changes.append((self.ino, EXTENT, 0, None))
                self.done.append(self.ino)
            try:
                engine.journal.append(BATCH, encode((layer.id, changes)))
            except OSError:
                self.directories, self.files, self.done = [], [], []
                raise
            layer.apply(changes)
            for file in linked:
                if self._links.settle(file):
                    (self.files if file.ino in layer.based else self.done).append(file.ino)
            yield

    def _new(self, found: Found) -> list[Change]:
        ino = self._registry.engine.allocate_ino()
        mode = found.stat.st_mode
        changes: list[Change] = [(ino, FRESH, b"", MADE), *records(ino, found), *self._name(ino, found)]
        if S_ISDIR(mode):
            self.directories.append(ino)
            return changes
        if found.stat.st_nlink > 1:
            self._links.remember(found.source, ino, _fields(found), found.stat.st_dev)
        if ino not in self._links.held:
            (self.files if S_ISREG(mode) and found.data else self.done).append(ino)
        return changes

    def _name(self, ino: int, found: Found) -> list[Change]:
        return [
            (ino, LINK, link_suffix(self.ino, found.name), b""),
            (self.ino, ENTRY, found.name, entry(ino, found.stat.st_mode)),
        ]


def records(ino: int, found: Found) -> list[Change]:
    """The records of something in the base, without those of its name."""
    mode = found.stat.st_mode
    changes: list[Change] = [(ino, XATTR, name, value) for name, value in found.xattrs]
    if S_ISDIR(mode):
        changes.append((ino, EXTENT, 0, (1, BASE, found.source, 0)))
    elif S_ISLNK(mode):
        changes.append((ino, SYMLINK, b"", found.target))
    else:
        changes += [(ino, EXTENT, start, (end, BASE, found.source, start)) for start, end in found.data]
    changes.append((ino, INODE, b"", encode_inode(_fields(found))))
    return changes


def _fields(found: Found) -> tuple[int, ...]:
    """Those of an inode record."""
    stat = found.stat
    mode = stat.st_mode
    size = allocated = rdev = 0
    if S_ISDIR(mode):
        size = DIRECTORY_BYTES
    elif S_ISLNK(mode):
        size = len(found.target)
    elif S_ISREG(mode):
        size, allocated = stat.st_size, sum(end - start for start, end in found.data)
    else:
        rdev = stat.st_rdev
    times = (stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns)
    return (mode, stat.st_uid, stat.st_gid, found.links, size, allocated, *times, rdev)

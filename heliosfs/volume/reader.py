"""Reading one state record by record, for whoever compares or checks states.

Nothing is kept but what was asked for. The state may belong to a branch that goes on changing: a reader is good
for one run of code that does not give way.
"""

from stat import S_IFDIR, S_IFMT

from heliosfs.base.errors import Corruption
from heliosfs.base.keys import ROOT_INO, split_link
from heliosfs.base.records import ENTRY_TYPE_BITS, HOLE, Extent, InodeRecord, decode_inode
from heliosfs.layers import stack
from heliosfs.layers.layer import Layer
from heliosfs.view.content import read_extent
from heliosfs.view.engine import Engine

Name = tuple[int, bytes]
"""(the directory's inode number, name in it)"""


class Reader:
    """One state, through the layer that stands for it."""

    def __init__(self, engine: Engine, layer: Layer) -> None:
        self.engine = engine
        self.layer = layer
        self._records: dict[int, InodeRecord | None] = {}
        self._names: dict[int, tuple[Name, ...]] = {}
        self._directories: dict[int, bytes] = {ROOT_INO: b""}
        self._places: dict[bytes, int | None] = {b"": ROOT_INO}

    def record(self, ino: int) -> InodeRecord | None:
        """The INODE record, None when the state has no such inode."""
        if ino not in self._records:
            value = stack.find_inode(self.engine.tree, self.layer, ino)
            self._records[ino] = None if value is None else decode_inode(value)
        return self._records[ino]

    def existing(self, ino: int) -> InodeRecord:
        """The INODE record of what a name leads to."""
        record = self.record(ino)
        if record is None:
            raise Corruption("inode", f"number {ino}, which has a name and no record")
        return record

    def is_directory(self, ino: int) -> bool:
        """Whether the state has a directory of that number."""
        record = self.record(ino)
        return record is not None and S_IFMT(record.mode) == S_IFDIR

    def names(self, ino: int) -> tuple[Name, ...]:
        """All names of an inode, sorted; none for the root and for what is not there."""
        found = self._names.get(ino)
        if found is None:
            suffixes = stack.links(self.engine.tree, self.layer, ino)
            found = self._names[ino] = tuple(sorted(map(split_link, suffixes)))
        return found

    def path(self, name: Name) -> bytes:
        """The path of a name from the root, without a leading slash."""
        above = self.directory(name[0])
        return above + b"/" + name[1] if above else name[1]

    def directory(self, ino: int) -> bytes:
        """The path of a directory; empty for the root. Corruption when it does not hang on the root."""
        chain: list[tuple[int, bytes]] = []
        passed: set[int] = set()
        at = ino
        while at not in self._directories:
            names = self.names(at)
            if len(names) != 1 or at in passed:
                raise Corruption("directory", f"inode {at}, which has no way up to the root")
            passed.add(at)
            chain.append((at, names[0][1]))
            at = names[0][0]
        path = self._directories[at]
        for at, name in reversed(chain):
            path = path + b"/" + name if path else name
            self._directories[at] = path
        return path

    def find(self, path: bytes) -> int | None:
        """The inode number at a path, None when there is nothing."""
        above, _, name = path.rpartition(b"/")
        directory = self._place(above)
        return None if directory is None else self.child(directory, name)

    def _place(self, path: bytes) -> int | None:
        """The same for a directory, remembered."""
        known = path
        while known not in self._places:
            known = known.rpartition(b"/")[0]
        at = self._places[known]
        for name in path[len(known) :].split(b"/"):
            if name:
                at = None if at is None else self.child(at, name)
                known = known + b"/" + name if known else name
                self._places[known] = at
        return at

    def child(self, directory: int, name: bytes) -> int | None:
        """The inode number of a name in a directory, None when there is none."""
        child = stack.find_entry(self.engine.tree, self.layer, directory, name)
        return None if child is None else child >> ENTRY_TYPE_BITS

    def entries(self, directory: int) -> dict[bytes, int]:
        """The inode numbers of all names in a directory."""
        found = stack.entries(self.engine.tree, self.layer, directory)
        return {name: child >> ENTRY_TYPE_BITS for name, child in found.items()}

    def xattrs(self, ino: int) -> dict[bytes, bytes]:
        """All extended attributes."""
        return stack.xattrs(self.engine.tree, self.layer, ino)

    def target(self, ino: int) -> bytes:
        """The target of a symbolic link."""
        return stack.find_symlink(self.engine.tree, self.layer, ino) or b""

    def extents(self, ino: int, start: int, end: int) -> list[Extent]:
        """What a part of a file is made of, holes included."""
        return stack.resolve(self.engine.tree, self.layer, ino, start, end) if start < end else []

    def content(self, ino: int, start: int, end: int) -> bytes:
        """The bytes of a part of a file. Corruption when they are damaged."""
        return b"".join([read_extent(self.engine, extent) for extent in self.extents(ino, start, end)])


def same_content(before: Reader, old: int, after: Reader, new: int, size: int) -> bool:
    """Whether two files of one size have the same bytes. Those from one source are not read.

    Bytes that cannot be read count as different.
    """
    left, right = before.extents(old, 0, size), after.extents(new, 0, size)
    if left == right:
        return True
    at = i = j = 0
    while at < size:
        end = min(left[i][1], right[j][1])
        if not _same_piece(before.engine, _part(left[i], at, end), _part(right[j], at, end)):
            return False
        i += left[i][1] == end
        j += right[j][1] == end
        at = end
    return True


def _part(extent: Extent, start: int, end: int) -> Extent:
    low, _, kind, source, skip = extent
    return start, end, kind, source, 0 if kind == HOLE else skip + start - low


def _same_piece(engine: Engine, left: Extent, right: Extent) -> bool:
    if left == right:
        return True
    try:
        return bytes(read_extent(engine, left)) == bytes(read_extent(engine, right))
    except Corruption:
        return False

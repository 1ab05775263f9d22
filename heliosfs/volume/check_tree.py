"""The invariants of one tree: names, links, counts, sizes, and that all content is where the tree says.

See `view.names` and `view.content` for the invariants.
"""

from collections.abc import Callable, Iterator
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK

from heliosfs.base.errors import Corruption, Refusal
from heliosfs.base.keys import FIRST_INO, ROOT_INO, link_suffix, split_link
from heliosfs.base.limits import FILE_BYTES_MAX, NAME_BYTES_MAX
from heliosfs.base.quoting import shown
from heliosfs.base.records import ENTRY_TYPE_BITS, HOLE, Extent, InodeRecord, decode_inode
from heliosfs.layers.delta import Delta, is_unread
from heliosfs.view import acl as acls
from heliosfs.volume.state_tree import Gap, StateTree

_TYPES = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK}
_PATHS_MAX = 20
"""As many paths are named for one damage; the rest are counted."""

Source = Callable[[Extent], str]
"""What is wrong with the source of an extent, or nothing."""


class TreeCheck:
    """The check of one state: `run` gives the problems as sentences."""

    def __init__(self, tree: StateTree, next_ino: int, source_fault: Source) -> None:
        self._tree = tree
        self._next_ino = next_ino
        self._source_fault = source_fault
        self._place: dict[int, tuple[int, bytes]] = {}
        """Inode number -> the name by which it was first reached from the root."""
        self.records: dict[int, InodeRecord] = {}
        self.unreadable: set[int] = set()
        """Inodes of which some content cannot be read."""

    def still_holds(self, affected: set[int]) -> bool:
        """Whether a tree in which all was well is well again, now that these inodes may be others."""
        inodes = self._tree.inodes
        for ino in affected:
            self.records.pop(ino, None)
        changed = {ino: inodes[ino] for ino in affected if ino in inodes}
        if self._tree.faults or self._tree.gaps or ROOT_INO not in inodes or any(self._decode(changed)):
            return False
        self._place.clear()
        self._reach()
        if len(self._place) + 1 != len(inodes):
            return False
        return not any(any(self._inode(ino, delta)) for ino, delta in changed.items())

    def run(self) -> Iterator[str]:
        """Every problem of the tree."""
        inodes = self._tree.inodes
        faults = list(self._decode(inodes))
        self._reach()
        for ino, fault in (*self._tree.faults, *faults):
            yield f"{self.name(ino)}: {fault}"
        for gap in self._tree.gaps:
            yield self._gap(gap)
        if ROOT_INO not in inodes and not self._tree.missing(ROOT_INO):
            yield "there is no root directory"
        for ino, delta in inodes.items():
            for fault in self._inode(ino, delta):
                yield f"{self.name(ino)}: {fault}"

    def _inode(self, ino: int, delta: Delta) -> Iterator[str]:
        """What is wrong with one inode."""
        record = self.records.get(ino)
        yield from self._content(ino, delta, record)
        if record is not None and delta.xattrs:
            yield from _acls(delta.xattrs, record)
        if record is not None and not self._tree.gaps:
            yield from self._names(ino, delta, record)
            yield from self._entries(ino, delta, record)

    def name(self, ino: int) -> str:
        """An inode in words: all its paths, as far as they are known."""
        if ino == ROOT_INO:
            return "the root directory"
        delta = self._tree.inodes.get(ino)
        places = {self._place[ino]} if ino in self._place else set()
        places |= {split_link(suffix) for suffix in (delta.links if delta else None) or {}}
        paths = sorted(filter(None, (self._path(*place) for place in places)))
        if not paths:
            return f"inode {ino}"
        return f"{' = '.join(shown(path) for path in paths[:_PATHS_MAX])} (inode {ino})"

    def _path(self, parent: int, name: bytes) -> bytes:
        """The path of a name; empty when its directory is not below the root."""
        parts = [name]
        while parent != ROOT_INO:
            if parent not in self._place:
                return b""
            parent, name = self._place[parent]
            parts.append(name)
        return b"/".join(reversed(parts))

    def _decode(self, inodes: dict[int, Delta]) -> Iterator[tuple[int, str]]:
        for ino, delta in inodes.items():
            if not (ino == ROOT_INO or FIRST_INO <= ino < self._next_ino):
                yield ino, f"its number was never given out (the next one is {self._next_ino})"
            if delta.inode is None:
                if not self._tree.missing(ino):
                    yield ino, "it has records, but no inode record"
                continue
            try:
                record = decode_inode(delta.inode)
            except Corruption as damage:
                yield ino, str(damage)
                continue
            if not 0 <= record.mode < 1 << 16 or S_IFMT(record.mode) not in _TYPES:
                yield ino, f"its mode {record.mode:o} is of no type"
            elif min(record.uid, record.gid, record.nlink, record.size, record.allocated, record.rdev) < 0:
                yield ino, "its inode record has a negative number"
            else:
                self.records[ino] = record

    def _reach(self) -> None:
        """Find the place of every inode that can be reached from the root."""
        pending = [ROOT_INO]
        while pending:
            ino = pending.pop()
            delta = self._tree.inodes.get(ino)
            for name, value in ((delta.entries if delta else None) or {}).items():
                child = (value or 0) >> ENTRY_TYPE_BITS
                if child not in self._place and child != ROOT_INO:
                    self._place[child] = (ino, name)
                    pending.append(child)

    def _gap(self, gap: Gap) -> str:
        """Which files a damaged node hits."""
        hit = sorted(ino for ino in self._tree.inodes.keys() | self._place.keys() if ino in gap)
        names = ", ".join(self.name(ino) for ino in hit[:_PATHS_MAX])
        more = f" and {len(hit) - _PATHS_MAX} more" if len(hit) > _PATHS_MAX else ""
        return f"{names or 'files that are not known'}{more}: cannot be read whole: {gap.reason}"

    def _names(self, ino: int, delta: Delta, record: InodeRecord) -> Iterator[str]:
        links = delta.links or {}
        for suffix in links:
            parent, name = split_link(suffix)
            above = self._tree.inodes.get(parent)
            value = (above.entries or {}).get(name) if above is not None else None
            if value is None or value >> ENTRY_TYPE_BITS != ino:
                yield f"it has the name {shown(name)} in {self.name(parent)}, which does not have it"
        if ino == ROOT_INO:
            if S_IFMT(record.mode) != S_IFDIR:
                yield "it is no directory"
            if links:
                yield "it has a name"
            return
        if ino not in self._place:
            yield "it cannot be reached from the root directory" if links else "it has no name"
        if S_IFMT(record.mode) != S_IFDIR:
            if record.nlink != len(links):
                yield f"its link count is {record.nlink}, but it has {len(links)} names"
        elif len(links) > 1:
            yield f"it is a directory with {len(links)} names"

    def _entries(self, ino: int, delta: Delta, record: InodeRecord) -> Iterator[str]:
        entries = delta.entries or {}
        if is_unread(delta):
            return
        if S_IFMT(record.mode) != S_IFDIR:
            if entries:
                yield f"it is no directory, but has {len(entries)} entries"
            return
        subdirectories = 0
        for name, value in entries.items():
            if value is None:
                continue
            child = value >> ENTRY_TYPE_BITS
            kind = (value & (1 << ENTRY_TYPE_BITS) - 1) << 12
            subdirectories += kind == S_IFDIR
            if not name or len(name) > NAME_BYTES_MAX or name in (b".", b"..") or b"/" in name or b"\0" in name:
                yield f"its entry {shown(name)} is no name"
            below = self._tree.inodes.get(child)
            if below is None:
                yield f"its entry {shown(name)} leads to inode {child}, which is missing"
                continue
            if link_suffix(ino, name) not in (below.links or {}):
                yield f"its entry {shown(name)} leads to inode {child}, which has no link back"
            known = self.records.get(child)
            if known is not None and S_IFMT(known.mode) != kind:
                yield f"its entry {shown(name)} says another type than inode {child} has"
        if record.nlink != 2 + subdirectories:
            yield f"its link count is {record.nlink}, but it has {subdirectories} subdirectories"

    def _content(self, ino: int, delta: Delta, record: InodeRecord | None) -> Iterator[str]:
        """Extents and the target of a symbolic link."""
        data = [extent for extent in delta.extents.extents() if extent[2] != HOLE] if delta.extents else []
        if is_unread(delta):
            return
        yield from self._sources(ino, data)
        if record is None:
            return
        kind = S_IFMT(record.mode)
        if kind == S_IFLNK:
            if delta.symlink is None:
                if not self._tree.gaps:
                    yield "it is a symbolic link without a target"
            elif len(delta.symlink) != record.size:
                yield f"its size is {record.size}, but its target has {len(delta.symlink)} bytes"
        elif delta.symlink is not None:
            yield "it has a target, but is no symbolic link"
        if data and kind != S_IFREG:
            yield "it has content, but is no file"
        if record.size > FILE_BYTES_MAX:
            yield f"its size of {record.size} bytes is too large"
        if data and kind == S_IFREG and data[-1][1] > record.size:
            yield f"its size is {record.size}, but it has content up to {data[-1][1]}"
        allocated = sum(end - start for start, end, *_ in data)
        if record.allocated != allocated and not self._tree.gaps:
            yield f"it says {record.allocated} bytes are allocated, but {allocated} are"

    def _sources(self, ino: int, data: list[Extent]) -> Iterator[str]:
        faults: dict[str, tuple[int, int]] = {}
        for extent in data:
            fault = self._source_fault(extent)
            if fault:
                first = faults.get(fault, extent)[0]
                faults[fault] = (first, extent[1])
        if faults:
            self.unreadable.add(ino)
        for fault, (start, end) in faults.items():
            yield f"bytes {start} to {end} cannot be read: {fault}"


def _acls(xattrs: dict[bytes, bytes | None], record: InodeRecord) -> Iterator[str]:
    """Access control lists can be read, and agree with the mode."""
    for name in (acls.ACCESS, acls.DEFAULT):
        value = xattrs.get(name)
        if value is None:
            continue
        try:
            acl = acls.decode(value)
        except Refusal as refusal:
            yield f"its {name.decode()} cannot be read: {refusal}"
            continue
        if name == acls.ACCESS and acls.permissions(acl) != record.mode & acls.PERMISSIONS:
            yield f"its mode {record.mode & acls.PERMISSIONS:o} does not agree with its access control list"

"""Taking in what is imported: many files in one record of the journal, without a request for each.

Each step leaves a sound tree, and requests run between steps, so others see files come as if they were copied. The end
is one operation in the log; undo goes back to the state before the beginning. When an import fails, what it has made
is removed again.
"""

import errno
import os
from collections.abc import Generator, Sequence
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID, S_ISUID

from msgspec.structs import replace

from heliosfs.base.clock import now, representable
from heliosfs.base.errors import Refusal
from heliosfs.base.keys import ENTRY, EXTENT, INODE, LINK, ROOT_INO, SYMLINK, XATTR, link_suffix
from heliosfs.base.limits import INLINE_BYTES_MAX, LINKS_MAX, NAME_BYTES_MAX, UNCUT_BYTES_MAX
from heliosfs.base.quoting import shown
from heliosfs.base.records import INLINE, encode_inode, entry
from heliosfs.layers.delta import FRESH, MADE, Change
from heliosfs.view.inode import Caller, Inode
from heliosfs.view.names import DIRECTORY_BYTES
from heliosfs.volume import origins, refs
from heliosfs.volume.branch import Branch
from heliosfs.volume.path_restore import RESERVED
from heliosfs.volume.refs import branch_key
from heliosfs.volume.source import Item
from heliosfs.volume.transaction import Transaction
from heliosfs.volume.volume import Volume

_USER = b"user."
STEP_FILES = 32
STEP_BYTES = 1 << 20
"""Taken in at one time: about 1 ms."""


class Intake:
    """One import into a directory of a branch, which is made if there is none."""

    def __init__(self, volume: Volume, branch: Branch, path: bytes, caller: Caller, keep_owner: bool) -> None:
        self.files = 0
        self.bytes = 0
        self.directories: dict[int, int] = {}
        """Number in the source -> inode number. 0 is the target."""
        self.names: list[bytes] = []
        """Those that were put into the target."""
        self.path = path
        self._volume = volume
        self.branch = branch
        self._caller = caller
        self._keep_owner = keep_owner
        self._linked: dict[object, int] = {}
        self._last = 0
        """The file to which more pieces belong."""
        self._times: tuple[int, int] | None = None
        """Of the target, to be set last."""
        transaction = Transaction(volume.registry)
        self._before = transaction.freeze(branch)
        transaction.commit()
        self._made = self._make_target()

    def _make_target(self) -> bool:
        view = self.branch.view
        above, _, name = self.path.rpartition(b"/")
        parent = view.resolve(above)
        target = parent if self.path == b"." else view.lookup(parent, name)
        if target is None:
            self.directories[0] = view.make(parent, name, 0o040755, self._caller).ino
            return True
        if not target.is_directory:
            raise Refusal(errno.ENOTDIR, f"{shown(self.path)} is not a directory")
        self.directories[0] = target.ino
        return False

    @property
    def target(self) -> Inode:
        """The directory into which all goes."""
        return self.branch.view.inode(self.directories[0])

    def check(self, names: Sequence[bytes]) -> None:
        """EEXIST when one of the names is there already; EINVAL for one that no file can have there."""
        view, target = self.branch.view, self.target
        for name in names:
            if target is view.root and name in RESERVED:
                raise Refusal(errno.EINVAL, f"the source has a {shown(name)}, which is reserved in the root of a tree")
            if view.lookup(target, name) is not None:
                raise Refusal(errno.EEXIST, f"{shown(name)} exists already: nothing was imported")

    def take(self, batch: Sequence[Item]) -> Generator[None, None, None]:
        """Take a batch in, in steps."""
        begin = size = 0
        for end, item in enumerate(batch, start=1):
            size += sum(len(data) for _, data in item.pieces)
            if end - begin >= STEP_FILES or size >= STEP_BYTES or end == len(batch):
                self._take(batch[begin:end])
                begin, size = end, 0
                yield
        while self._volume.engine.journal.size() > UNCUT_BYTES_MAX and self._volume.background.dirty():
            self._volume.background.step()
            yield

    def _take(self, items: Sequence[Item]) -> None:
        """Take in what goes into one record of the journal, or into a few where one item needs another."""
        step = _Step()
        try:
            for item in items:
                if not item.name and not item.mode:
                    step.writes.append((self._last, item))
                    continue
                linked = item.same_as is not None and item.same_as in self._linked
                place = (item.directory, item.name)
                if not item.name or linked or place in step.places or self.directories.get(item.directory) in step.made:
                    self._commit(step)
                    step = _Step()
                if not item.name:
                    self._adorn(item)
                elif linked:
                    self._link(item)
                else:
                    self._add(item, step)
            self._commit(step)
        except BaseException:
            self.branch.view.leave_out(list(step.parents.values()))
            raise

    def _add(self, item: Item, step: "_Step") -> None:
        parent = self._parent(item, step.parents)
        if S_IFMT(item.mode) == S_IFDIR:
            parent.nlink += 1
        ino = self._new(item, parent, step.changes)
        step.made.add(ino)
        step.places.add((item.directory, item.name))
        if item.pieces and not _fits_inline(item):
            step.writes.append((ino, item))

    def _parent(self, item: Item, parents: dict[int, Inode]) -> Inode:
        """The directory of an item, in which its name is free."""
        view, ino = self.branch.view, self.directories[item.directory]
        parent = parents.get(ino)
        if parent is None:
            parent = parents[ino] = view.inode(ino)
            if parent.orphan is not None:
                raise Refusal(errno.ESTALE, "a directory that was being filled was removed meanwhile")
        if len(item.name) > NAME_BYTES_MAX:
            raise Refusal(errno.ENAMETOOLONG, f"{shown(item.name)} is too long a name")
        present = view.lookup(parent, item.name)
        if present is not None:
            if present.is_directory or not item.again:
                raise Refusal(errno.EEXIST, f"{shown(item.name)} exists already: nothing was imported")
            view.unlink(parent, item.name)
        if not item.directory and present is None:
            self.check([item.name])
            self.names.append(item.name)
        if parent.nlink >= LINKS_MAX and S_IFMT(item.mode) == S_IFDIR:
            raise Refusal(errno.EMLINK, f"there are too many directories beside {shown(item.name)}")
        return parent

    def _new(self, item: Item, parent: Inode, changes: list[Change]) -> int:
        """Add the records of a new inode, without what is written to it; its number."""
        ino = self._volume.engine.allocate_ino()
        kind = S_IFMT(item.mode)
        changes.append((ino, FRESH, b"", MADE))
        size = allocated = 0
        if kind == S_IFDIR:
            self.directories[item.number] = ino
            size = DIRECTORY_BYTES
        elif kind == S_IFLNK:
            size = len(item.target)
            changes.append((ino, SYMLINK, b"", item.target))
        elif kind == S_IFREG:
            size = item.size
            if _fits_inline(item):
                [(_, data)] = item.pieces
                allocated = len(data)
                changes.append((ino, EXTENT, 0, (len(data), INLINE, data, 0)))
                self.bytes += len(data)
        self._last = ino
        changes.append((ino, INODE, b"", self._record(item, kind, size, allocated)))
        changes += [(ino, XATTR, name, value) for name, value in self._xattrs(item)]
        changes.append((ino, LINK, link_suffix(parent.ino, item.name), b""))
        changes.append((parent.ino, ENTRY, item.name, entry(ino, item.mode)))
        if item.same_as is not None:
            self._linked[item.same_as] = ino
        self.files += 1
        return ino

    def _owned(self, item: Item) -> tuple[int, int, int]:
        """Mode, owner and group. A file that gets another owner loses its set-id bits, as with chown."""
        if self._keep_owner:
            return item.mode, item.uid, item.gid
        mode, caller = item.mode, self._caller
        if S_IFMT(mode) != S_IFDIR and (item.uid, item.gid) != (caller.uid, caller.gid):
            mode &= ~(S_ISUID | S_ISGID)
        if S_IFMT(mode) in (S_IFCHR, S_IFBLK):
            raise Refusal(errno.EPERM, f"{shown(item.name)} is a device, which only root can make")
        return mode, caller.uid, caller.gid

    def _xattrs(self, item: Item) -> list[tuple[bytes, bytes]]:
        """Those that are not of root's namespaces, unless it is root's."""
        return [pair for pair in item.xattrs if self._keep_owner or pair[0].startswith(_USER)]

    def _record(self, item: Item, kind: int, size: int, allocated: int) -> bytes:
        mode, uid, gid = self._owned(item)
        nlink = 2 if kind == S_IFDIR else 1
        times = (representable(item.atime), representable(item.mtime), now())
        return encode_inode((mode, uid, gid, nlink, size, allocated, *times, item.rdev))

    def _adorn(self, item: Item) -> None:
        """Give the target, if it was made for this, the attributes of the source."""
        if self._made:
            view, target = self.branch.view, self.target
            mode, uid, gid = self._owned(item)
            view.set_attributes(target, mode=mode & 0o7777, uid=uid, gid=gid)
            for name, value in self._xattrs(item):
                view.set_xattr(target, name, value)
            self._times = (item.atime, item.mtime)

    def _link(self, item: Item) -> None:
        """One more name for a file that is here already."""
        view = self.branch.view
        parent = self._parent(item, {})
        mtime = parent.mtime
        view.link(view.inode(self._linked[item.same_as]), parent, item.name)
        if item.directory:
            view.set_attributes(parent, mtime=mtime)
        self.files += 1

    def _commit(self, step: "_Step") -> None:
        view = self.branch.view
        target = step.parents.get(self.directories[0])
        if target is not None:
            target.mtime = target.ctime = now()
        if step.changes:
            view.put_in(step.changes, list(step.parents.values()))
        for ino, item in step.writes:
            inode = view.inode(ino)
            for offset, data in item.pieces:
                view.put_content(inode, offset, data)
                self.bytes += len(data)
            view.closed(inode)
            self._forget(inode)
        for parent in step.parents.values():
            self._forget(parent)

    @staticmethod
    def _forget(inode: Inode) -> None:
        """Memory is for inodes that the kernel knows."""
        if not inode.lookups and not inode.opens and inode.ino != ROOT_INO:
            inode.view.forget(inode)

    def finish(self, what: str, origin: str) -> int:
        """Enter the import into the log; the number of the operation. `origin` is the directory that it came from."""
        registry, branch = self._volume.registry, self.branch
        if self._times is not None:
            atime, mtime = self._times
            branch.view.set_attributes(self.target, atime=atime, mtime=mtime)
        transaction = Transaction(registry)
        after = transaction.freeze(branch)
        ref = branch_key(branch.id)
        shown = (replace(branch.record, top=self._before), replace(branch.record, top=after))
        transaction.show(ref, *map(refs.encode, shown))
        if origin and origins.is_text(origin) and origins.is_text(os.fsdecode(self.path)):
            path = os.fsdecode(self.path)
            origins.put(transaction, branch, origins.IMPORT_PREFIX, after, self._caller, origin, path)
        transaction.commit("import", what, self._caller, branch.id)
        return registry.next_operation() - 1

    def undo(self) -> Generator[None, None, None]:
        """Remove what was made, in steps."""
        view = self.branch.view
        pending = [(self.directories[0], name) for name in self.names]
        while pending:
            ino, name = pending[-1]
            above = view.inode(ino)
            inode = view.lookup(above, name)
            if inode is None:
                pending.pop()
            elif not inode.is_directory:
                view.unlink(above, name)
                pending.pop()
            elif found := view.entries(inode):
                pending.extend((inode.ino, child) for child, _, _ in found)
            else:
                view.rmdir(above, name)
                pending.pop()
            yield
        if self._made and not view.entries(self.target):
            view.rmdir(view.parent(self.target), self.path.rpartition(b"/")[2])


class _Step:
    """What is gathered for one record of the journal, and the bytes that are written after it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.parents: dict[int, Inode] = {}
        self.writes: list[tuple[int, Item]] = []
        self.made: set[int] = set()
        self.places: set[tuple[int, bytes]] = set()


def _fits_inline(item: Item) -> bool:
    return len(item.pieces) == 1 and item.size <= INLINE_BYTES_MAX and item.pieces[0][0] == 0 and (
        len(item.pieces[0][1]) == item.size
    )

"""Open files and directories.

A handle keeps its inode itself, so it works on after the last name is gone. A directory's handle keeps the
listing it began with: positions mean the same for as long as it is open, whatever changes.
"""

from collections.abc import Callable, Coroutine
from os import O_ACCMODE, O_RDWR
from stat import S_IFMT
from typing import Any, Final, Protocol

from pyfuse3 import EntryAttributes, FileNameT, InodeT, ReaddirToken, readdir_reply

from heliosfs.base.clock import now
from heliosfs.base.errors import Corruption
from heliosfs.base.keys import INO_BITS
from heliosfs.fuse.inode_table import InodeTable
from heliosfs.fuse.rights import stripped
from heliosfs.view.content import KEEP
from heliosfs.view.inode import Inode

SETTLED_NANOSECONDS: Final = 50_000_000
"""Two changes within one tick of the coarse clock have the same time; a tick is 10 ms at most."""
RELATIME_NANOSECONDS: Final = 86400 * 10**9
"""An access time older than this is brought up to date by a read."""

Content = bytes | memoryview

_NAMES_BEFORE: Final = 2
"""`.` and `..` come first."""


class OpenFile:
    """An open file of a view."""

    __slots__ = ("inode", "mappable", "strip", "view", "writable", "written")

    def __init__(self, inode: Inode, flags: int, uid: int, gid: int, pid: int) -> None:
        self.inode = inode
        self.view = inode.view
        access = flags & O_ACCMODE
        self.writable = bool(access)
        self.mappable = access == O_RDWR
        """A shared mapping of it can be written to, without our seeing it."""
        self.strip = stripped(inode, uid, gid, pid) if access else KEEP
        """What a write by whoever opened it does to set-id bits and capabilities."""
        self.written = False
        inode.opens += 1

    def read(self, offset: int, size: int) -> Content:
        return self.view.read(self.inode, offset, size)

    def write(self, offset: int, data: bytes) -> int:
        self.written = True
        return self.view.write(self.inode, offset, data, self.strip)

    def close(self) -> None:
        self.inode.opens -= 1
        # Not when it could have been written to: a file that is opened again and again would wait in the cutter's queue
        # as often, and only what was written counts for its length.
        if self.written:
            self.view.closed(self.inode)


class OpenFileWithAccessTime(OpenFile):
    """The same where access times are kept, by the rules of the kernel's relatime."""

    __slots__ = ()

    def read(self, offset: int, size: int) -> Content:
        touch(self.inode)
        return self.view.read(self.inode, offset, size)


def touch(inode: Inode) -> None:
    """Note an access."""
    time = now()
    if is_access_due(inode, time):
        inode.view.set_attributes(inode, atime=time, ctime=inode.ctime)


def is_access_due(inode: Inode, time: int) -> bool:
    """Whether an access at that time is to be noted, by the rules of the kernel's relatime."""
    if inode.view.read_only:
        return False
    return inode.atime <= max(inode.mtime, inode.ctime) or time - inode.atime > RELATIME_NANOSECONDS


class AnyFile(Protocol):
    """What the handlers need of an open file, whether it is in a view or made on the fly."""

    def read(self, offset: int, size: int) -> Content | Coroutine[Any, Any, Content]: ...

    def write(self, offset: int, data: bytes) -> int | Coroutine[Any, Any, int]: ...

    def close(self) -> None: ...


class Directory(Protocol):
    """An open directory, whether it is in a view or made on the fly."""

    def reply(self, start: int, token: ReaddirToken) -> None:
        """Send the entries from a position on."""

    def close(self) -> None: ...


class OpenDirectory:
    """An open directory of a view."""

    def __init__(self, inode: Inode, table: InodeTable, *, relatime: bool = False) -> None:
        self.inode = inode
        self.extra: Callable[[], list[tuple[bytes, EntryAttributes]]] | None = None
        """Entries that follow all others."""
        self.hide_all = False
        """Show an empty directory."""
        self._table = table
        self._relatime = relatime
        self._entries: list[tuple[bytes, int, int]] | None = None
        self._changed_at = 0
        self._switches = 0
        inode.opens += 1

    def close(self) -> None:
        self.inode.opens -= 1

    def reply(self, start: int, token: ReaddirToken) -> None:
        """Send the entries from a position on. Position 0 is the beginning, where the listing is taken
        anew."""
        entries = self._entries
        if entries is None or start == 0:
            entries = self._take()
            certain = True
        else:
            certain = self._is_unchanged()
        if start < _NAMES_BEFORE and not self._reply_dots(start, token):
            return
        first = max(start - _NAMES_BEFORE, 0)
        inode, table = self.inode, self._table
        inodes, lookup = inode.view.inodes, inode.view.lookup
        attributes, enter = table.attributes, table.enter
        for position in range(first, len(entries)):
            name, ino, kind = entries[position]
            try:
                child = inodes.get(ino) or inode.view.inode(ino) if certain else lookup(inode, name)
            except Corruption:
                child = None
                if not self._reply_damaged(name, ino, kind, position, token):
                    return
            if child is None:
                continue
            if child.ino != ino:
                table.let_go(child)
                continue
            # Not FileNameT(name), which is a call: this is the loop of every `find`.
            if not readdir_reply(token, name, attributes(child), position + _NAMES_BEFORE + 1):
                table.let_go(child)
                return
            enter(child)
        if self.extra is not None:
            self._reply_extra(max(start, len(entries) + _NAMES_BEFORE), token)

    def _take(self) -> list[tuple[bytes, int, int]]:
        if self._relatime:
            touch(self.inode)
        self._entries = [] if self.hide_all else self.inode.view.entries(self.inode)
        self._switches = self._table.switches
        changed_at = self.inode.ctime
        self._changed_at = changed_at if changed_at < now() - SETTLED_NANOSECONDS else -1
        return self._entries

    def _is_unchanged(self) -> bool:
        """Whether every name of the listing is sure to be there still and to mean the same inode."""
        return self._changed_at == self.inode.ctime and self._switches == self._table.switches

    def _reply_dots(self, start: int, token: ReaddirToken) -> bool:
        """`.` and `..`, of which the kernel takes the number alone: they count as no look-up."""
        inode, table = self.inode, self._table
        if start == 0 and not readdir_reply(token, FileNameT(b"."), table.attributes(inode), 1):
            return False
        parent = inode if inode.orphan is not None else inode.view.parent(inode)
        return readdir_reply(token, FileNameT(b".."), table.attributes(parent), _NAMES_BEFORE)

    def _reply_damaged(self, name: bytes, ino: int, kind: int, position: int, token: ReaddirToken) -> bool:
        """A file whose record is damaged is listed all the same. The kernel asks again at once, and gets
        EIO."""
        entry = EntryAttributes()
        entry.st_ino = InodeT(self.inode.view.number << INO_BITS | ino)
        entry.st_mode = S_IFMT(kind << 12)
        entry.entry_timeout = entry.attr_timeout = 0
        return readdir_reply(token, FileNameT(name), entry, position + _NAMES_BEFORE + 1)

    def _reply_extra(self, start: int, token: ReaddirToken) -> None:
        """The reserved names after all others, where they are to be listed."""
        assert self.extra is not None and self._entries is not None
        before = len(self._entries) + _NAMES_BEFORE
        reply_from(self.extra(), start, before, token)


def reply_from(entries: list[tuple[bytes, EntryAttributes]], start: int, before: int, token: ReaddirToken) -> None:
    """Send entries of which the first has the position `before`."""
    for position in range(max(start - before, 0), len(entries)):
        name, entry = entries[position]
        if not readdir_reply(token, FileNameT(name), entry, before + position + 1):
            return


class Handles:
    """The open files and directories by the numbers that the kernel uses for them."""

    def __init__(self) -> None:
        self.files: dict[int, AnyFile] = {}
        self.directories: dict[int, Directory] = {}
        self.mappable = 0
        """How many open files can have a shared mapping that is written to."""
        self._next = 1

    def add(self, file: AnyFile) -> int:
        """Take an open file in; the number for it."""
        handle = self._next
        self._next = handle + 1
        self.files[handle] = file
        if isinstance(file, OpenFile) and file.mappable:
            self.mappable += 1
        return handle

    def remove(self, handle: int) -> AnyFile:
        """Close an open file."""
        file = self.files.pop(handle)
        file.close()
        if isinstance(file, OpenFile) and file.mappable:
            self.mappable -= 1
        return file

    def add_directory(self, directory: Directory) -> int:
        """Take an open directory in; the number for it."""
        handle = self._next
        self._next = handle + 1
        self.directories[handle] = directory
        return handle

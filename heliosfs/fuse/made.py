"""Directories and files that are in no tree: their handles."""

import errno
from collections.abc import Callable, Coroutine
from typing import Any

from pyfuse3 import EntryAttributes, FileNameT, ReaddirToken, readdir_reply

from heliosfs.base.errors import Refusal
from heliosfs.fuse.handles import Content
from heliosfs.fuse.inode_table import InodeTable
from heliosfs.view.inode import Inode

Found = Inode | EntryAttributes
"""A tree's root or file, which the kernel will hold, or something made, which needs no counting."""


class MadeDirectory:
    """An open directory whose names are computed when a listing begins."""

    def __init__(
        self,
        table: InodeTable,
        own: EntryAttributes,
        names: Callable[[], list[bytes]],
        find: Callable[[bytes], Found | None],
    ) -> None:
        self._table = table
        self._own = own
        self._names = names
        self._find = find
        self._listing: list[bytes] = []

    def close(self) -> None:
        pass

    def reply(self, start: int, token: ReaddirToken) -> None:
        """Send the entries from a position on."""
        if start == 0:
            self._listing = [b".", b"..", *self._names()]
        for position in range(start, len(self._listing)):
            name = self._listing[position]
            found = self._own if position < 2 else self._find(name)
            if found is None:
                continue
            entry = self._table.attributes(found) if isinstance(found, Inode) else found
            if not readdir_reply(token, FileNameT(name), entry, position + 1):
                if isinstance(found, Inode):
                    self._table.let_go(found)
                return
            if isinstance(found, Inode):
                self._table.enter(found)


class MadeFile:
    """An open file whose content was computed when it was opened."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, offset: int, size: int) -> Content:
        return self._content[offset : offset + size]

    def write(self, offset: int, data: bytes) -> int:
        raise Refusal(errno.EBADF)

    def close(self) -> None:
        pass


class VerbFile:
    """A file that does something with each line that is written to it; the write fails if that fails."""

    def __init__(self, act: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        self._act = act

    def read(self, offset: int, size: int) -> Content:
        return b""

    def write(self, offset: int, data: bytes) -> Coroutine[Any, Any, int]:
        return self._run(data)

    async def _run(self, data: bytes) -> int:
        await self._act(data.strip())
        return len(data)

    def close(self) -> None:
        pass

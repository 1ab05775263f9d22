"""Changing what a branch shows under the programs that use it: restore, undo, merge.

The kernel keeps names, attributes and pages of the state before, and some of its pages may be dirty. In
order:

    1. Dirty pages of shared mappings are written back, into the state before, and dropped, so that the next
       store through a mapping has to ask us again.
    2. The state is switched: one step that no request sees half of.
    3. All names expire, and what the kernel knows of every changed inode is dropped.

A store through a mapping that falls between 1 and 2 has happened after the switch, with what else was in
its page.
"""

from collections.abc import Callable, Iterable

import trio

from heliosfs.base.keys import ROOT_INO
from heliosfs.fuse import magic
from heliosfs.fuse.handles import Handles, OpenFile
from heliosfs.fuse.inode_table import InodeTable
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.numbers import pack
from heliosfs.view.inode import Inode
from heliosfs.volume.branch import Branch

Changes = Iterable[tuple[Branch, set[int]]]
"""The inode numbers that may have changed, by branch."""


class Switcher:
    """One switch at a time."""

    def __init__(self, table: InodeTable, handles: Handles, cache: KernelCache) -> None:
        self._table = table
        self._handles = handles
        self._cache = cache
        self._lock = trio.Lock()

    async def switch(self, branch: Branch, act: Callable[[], Changes]) -> None:
        """Carry out `act`, which switches this branch and perhaps others and says what changed."""
        async with self._lock:
            before = self._names_of_root(branch)
            if self._handles.mappable:
                await self._cache.write_back()
                await self._cache.forget(inodes=self._mapped(branch))
            changes = [(changed, set(inos)) for changed, inos in act()]
            self._table.switches += 1
            await self._announce(changes, before)

    async def _announce(self, changes: list[tuple[Branch, set[int]]], before: set[tuple[int, bytes]]) -> None:
        numbers: list[int] = []
        attributes: list[int] = []
        names: list[tuple[int, bytes]] = []
        for branch, inos in changes:
            held = [inode for inode in map(branch.view.inodes.get, inos) if inode is not None and inode.lookups]
            numbers.extend(map(self._table.number, held))
            if ROOT_INO in inos:
                attributes.extend(pack(branch.view.number, ino) for ino in magic.ROOT_NAMES.values())
            if not self._cache.can_expire_names:
                names.extend(before | self._names_of_root(branch))
                names.extend(self._name_of(inode) for inode in held if inode.is_directory and inode.ino != ROOT_INO)
        self._cache.expire_names()
        await self._cache.forget(numbers, attributes, names)

    def _mapped(self, branch: Branch) -> list[int]:
        """The files of a branch that may be mapped for writing."""
        files = [file for file in self._handles.files.values() if isinstance(file, OpenFile)]
        inodes = {file.inode for file in files if file.mappable and file.view is branch.view}
        return [self._table.number(inode) for inode in inodes]

    # For kernels that cannot expire all names at once. Dropping a directory's name drops the names below
    # it, so those of changed directories and those in the root are enough.

    def _names_of_root(self, branch: Branch) -> set[tuple[int, bytes]]:
        if self._cache.can_expire_names:
            return set()
        root = branch.view.root
        number = self._table.number(root)
        return {(number, name) for name, _, _ in branch.view.entries(root)}

    def _name_of(self, directory: Inode) -> tuple[int, bytes]:
        view = directory.view
        path = b"" if directory.orphan is not None else view.paths(directory.ino)[0]
        parent = view.root if directory.orphan is not None else view.parent(directory)
        return self._table.number(parent), path.rpartition(b"/")[2]

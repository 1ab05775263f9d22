"""Restoring some paths of a branch: what is at or below them becomes what another state has there, nothing else.

Identity is kept where it can be: what comes in has the inode number that it has in that state, unless the file is
now somewhere else in the tree, outside of the paths; then it comes in under a new number and shares its content. No
content is copied. It is done in a draft, so it is one operation or nothing.
"""

import errno
from collections.abc import Iterable
from stat import S_IFDIR, S_IFMT, S_IFREG

from heliosfs.base.errors import Refusal
from heliosfs.base.keys import ROOT_INO
from heliosfs.base.quoting import shown
from heliosfs.layers import stack
from heliosfs.layers.layer import Layer
from heliosfs.view.inode import Caller, Inode
from heliosfs.volume.branch import Branch
from heliosfs.volume.changes import Change, changes
from heliosfs.volume.conflicts import copy_attributes, foreign
from heliosfs.volume.draft import Draft
from heliosfs.volume.reader import Reader
from heliosfs.volume.registry import Registry
from heliosfs.volume.sides import differences

RESERVED = (b".snapshots", b".branches", b".heliosfs")
"""Names in a root that are no files of the tree. The floor above gives them their meaning."""

_NAMED_PATHS_MAX = 10
"""Paths that the operation log names; of more it tells the number."""


def clean_paths(paths: Iterable[bytes]) -> list[bytes]:
    """Paths from the root of a tree, in their plainest form; `.` is the root. EINVAL for what leads out of it."""
    found = []
    for path in paths:
        names = [name for name in path.split(b"/") if name not in (b"", b".")]
        if b".." in names:
            raise Refusal(errno.EINVAL, f"the path {shown(path)} may lead out of the tree: write it without ..")
        if names and names[0] in RESERVED:
            raise Refusal(errno.EINVAL, f"the path {shown(path)} is no file of the tree")
        found.append(b"/".join(names) or b".")
    return found


def restore_paths(
    registry: Registry, branch: Branch, target: Layer, paths: list[bytes], text: str, caller: Caller
) -> tuple[list[Change], set[int]]:
    """Make what is at or below `paths` as `target` has it; `text` says which state that is.

    The changes that this was, and the numbers of the inodes that may have changed. When there are no changes
    nothing was done.
    """
    wanted = clean_paths(paths)
    draft = Draft(registry, branch)
    check_known(registry, wanted, draft.before, target)
    found = changes(registry.engine, draft.before, target, wanted)
    if not found:
        return [], set()
    _Restore(draft, Reader(registry.engine, target)).run(found)
    listed = ", ".join(path.decode(errors="backslashreplace") for path in wanted[:_NAMED_PATHS_MAX])
    more = f" and {len(wanted) - _NAMED_PATHS_MAX} more" if len(wanted) > _NAMED_PATHS_MAX else ""
    return found, draft.commit("restore", f"{text} -- {listed}{more}", caller)


def check_known(
    registry: Registry, paths: list[bytes], *states: Layer, where: str = "neither now nor in the state to restore"
) -> None:
    """ENOENT for a path that none of the states has."""
    readers = [Reader(registry.engine, state) for state in states]
    for path in paths:
        if path != b"." and all(reader.find(path) is None for reader in readers):
            raise Refusal(errno.ENOENT, f"there is no {shown(path)}, {where}")


class _Restore:
    """One restore into a draft."""

    def __init__(self, draft: Draft, theirs: Reader) -> None:
        self._view = draft.view
        self._mine = Reader(draft.view.engine, draft.before)
        self._theirs = theirs
        self._placed: dict[int, int] = {}
        """Inode number in the other state -> here, of what came in."""
        self._made: list[tuple[int, Inode]] = []
        """(number in the other state, directory here) of directories that came in."""

    def run(self, found: list[Change]) -> None:
        """First what stays, so that a file that gets one more name is what it will be; then what goes, what comes."""
        moved: list[Change] = []
        for change in found:
            if _stays(change):
                self._adjust(change)
            else:
                moved.append(change)
        gone = [change.old_path or change.path for change in moved if change.before is not None]
        for path in sorted(gone, reverse=True):
            self._remove(path)
        for path, change in sorted((change.path, change) for change in moved if change.after is not None):
            assert change.after is not None
            self._put(path, change.after.ino)
        for ino, directory in reversed(self._made):
            self._view.set_attributes(directory, mtime=self._theirs.existing(ino).mtime)

    def _adjust(self, change: Change) -> None:
        """One that stays the inode that it is."""
        assert change.after is not None
        inode, ino = self._view.resolve(change.path), change.after.ino
        record = self._theirs.existing(ino)
        if "content" in change.what:
            self._view.take_content(inode, foreign(self._theirs, ino), record.mtime)
        copy_attributes(self._view, inode, self._theirs, ino)

    def _remove(self, path: bytes) -> None:
        parent, name = self._place(path)
        inode = self._view.lookup(parent, name)
        assert inode is not None
        if inode.is_directory:
            self._view.rmdir(parent, name)
        else:
            self._view.unlink(parent, name)

    def _place(self, path: bytes) -> tuple[Inode, bytes]:
        above, _, name = path.rpartition(b"/")
        return self._view.resolve(above), name

    def _put(self, path: bytes, ino: int) -> None:
        """Put in what the other state has, at a place that is free."""
        above, _, name = path.rpartition(b"/")
        parent = self._directory(above)
        if self._view.lookup(parent, name) is not None:
            raise Refusal(errno.EEXIST, f"something else is now at {shown(path)}: restore that as well")
        known = self._same_file(ino)
        if known is not None:
            self._view.link(known, parent, name)
            return
        inode = self._view.adopt(parent, name, foreign(self._theirs, ino), renumber=self._has(ino))
        self._placed[ino] = inode.ino
        if inode.is_directory:
            self._made.append((ino, inode))

    def _same_file(self, ino: int) -> Inode | None:
        """What the tree has of a file with several names that is to get one of them back."""
        if self._theirs.is_directory(ino):
            return None
        if ino in self._placed:
            return self._view.inode(self._placed[ino])
        if not self._has(ino) or not _paths(self._theirs, ino) & _paths(self._mine, ino):
            return None
        present = Reader(self._view.engine, self._view.top)
        return None if differences(present, ino, self._theirs, ino) else self._view.inode(ino)

    def _has(self, ino: int) -> bool:
        return stack.find_inode(self._view.engine.tree, self._view.top, ino) is not None

    def _directory(self, path: bytes) -> Inode:
        """The directory at a path; made, with those above it, as the other state has it."""
        directory = self._view.root
        at, ino = b"", ROOT_INO
        for name in filter(None, path.split(b"/")):
            at = at + b"/" + name if at else name
            child = self._theirs.child(ino, name)
            assert child is not None
            ino = child
            found = self._view.lookup(directory, name)
            if found is None:
                found = self._view.adopt(directory, name, foreign(self._theirs, ino), renumber=self._has(ino))
                self._made.append((ino, found))
            elif not found.is_directory:
                raise Refusal(errno.ENOTDIR, f"{shown(at)} is not a directory now: restore that first")
            directory = found
        return directory


def _paths(reader: Reader, ino: int) -> set[bytes]:
    return {reader.path(name) for name in reader.names(ino)}


def _stays(change: Change) -> bool:
    """Whether a change leaves the inode in its place, so that programs that have it open see it."""
    if change.kind != "M" or change.old_path is not None:
        return False
    assert change.before is not None and change.after is not None
    if S_IFMT(change.after.record.mode) == S_IFDIR:
        return True
    return change.before.ino == change.after.ino and S_IFMT(change.after.record.mode) == S_IFREG

"""What changed from one state to another, in paths: at a cost proportional to the changes.

Kinds, with what holds of the paths:

    A   added: the path is in the second state alone
    D   deleted: the path is in the first state alone
    R   renamed: the old path is in the first state alone, the new one in the second alone, and it is one inode
    M   modified: the path is in both states, or its old path where a renamed directory carried it along
    T   likewise, and what is there has another type

A path that both states have is one thing, whatever inode it leads to: editors save by putting a new file in the
place of the old one. Inodes decide what is a rename. A directory that was renamed is one change, and what is below
it is listed only where it changed by itself, unless the directory came in the place of another one: then everything
below is told path by path (see `places`). An added or deleted directory lists what is below it as well.

Times alone are no change. Each name of a file with several names is one for itself. Bytes are compared only
where the two states have them from different sources.
"""

import os
from collections.abc import Iterable, Iterator
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, S_IMODE
from typing import Any, Final, NamedTuple

from heliosfs.base.keys import ROOT_INO
from heliosfs.base.records import InodeRecord
from heliosfs.base.steps import Steps, finish
from heliosfs.layers.layer import Layer
from heliosfs.view.engine import Engine
from heliosfs.volume.difference import touched_in_steps
from heliosfs.volume.git_names import quoted
from heliosfs.volume.places import SPLIT, Places
from heliosfs.volume.reader import Name, Reader, same_content

ADDED: Final = "A"
DELETED: Final = "D"
MODIFIED: Final = "M"
RENAMED: Final = "R"
RETYPED: Final = "T"

STEP_INODES: Final = 16
"""Compared in one step: some 0.5 ms."""

ROOT_PATH: Final = b"."
"""What the root directory is called."""

_TYPES = {
    S_IFREG: "file", S_IFDIR: "directory", S_IFLNK: "symlink", S_IFIFO: "fifo", S_IFSOCK: "socket",
    S_IFCHR: "device", S_IFBLK: "device",
}  # fmt: skip


class File(NamedTuple):
    """An inode in one of the two states."""

    ino: int
    record: InodeRecord

    @property
    def type(self) -> int:
        return S_IFMT(self.record.mode)


class Change(NamedTuple):
    """One change. `path` is that in the second state, of what is deleted in the first.

    `old_path` is the path in the first state where that is another one. `what` holds, in this order, those that
    differ of: type, content, target, device, mode, owner, xattrs; nothing for A and D.
    """

    kind: str
    path: bytes
    old_path: bytes | None
    what: tuple[str, ...]
    before: File | None
    after: File | None

    @property
    def is_directory(self) -> bool:
        """Whether it is about directories alone."""
        return all(file is None or file.type == S_IFDIR for file in (self.before, self.after))


def changes(engine: Engine, a: Layer, b: Layer, paths: Iterable[bytes] = (), *, flat: bool = False) -> list[Change]:
    """The changes from state `a` to state `b`, sorted by path; with `paths`, those at or below one of them.

    `flat` lists everything below a renamed directory as renamed; with `paths` that is always so.
    """
    return finish(changes_in_steps(engine, a, b, paths, flat=flat))


def changes_in_steps(
    engine: Engine, a: Layer, b: Layer, paths: Iterable[bytes] = (), *, flat: bool = False
) -> Steps[list[Change]]:
    """The same in steps. Neither state may change meanwhile."""
    wanted = [path.strip(b"/") for path in paths]
    try:
        found = yield from _Comparison(engine, a, b, flat or bool(wanted)).run()
    except RecursionError:
        # Hundreds of directories, each moved into the next: what becomes of each path is true as well.
        found = yield from _Comparison(engine, a, b, flat or bool(wanted), split_all=True).run()
    if wanted:
        found = [each for change in found for each in _limited(change, wanted)]
    return sorted(found, key=lambda change: (change.path, change.kind))


def _limited(change: Change, wanted: list[bytes]) -> list[Change]:
    """The part of a change that is at or below one of the paths."""
    new = _is_wanted(change.path, wanted)
    old = _is_wanted(change.old_path, wanted) if change.old_path is not None else new
    if new and old:
        return [change]
    if new:
        return [change._replace(kind=ADDED, old_path=None, what=(), before=None)]
    if old:
        assert change.old_path is not None
        return [change._replace(kind=DELETED, path=change.old_path, old_path=None, what=(), after=None)]
    return []


def _is_wanted(path: bytes, wanted: list[bytes]) -> bool:
    return any(above in (b"", ROOT_PATH) or path == above or path.startswith(above + b"/") for above in wanted)


class _Comparison:
    """One comparison of two states."""

    def __init__(self, engine: Engine, a: Layer, b: Layer, flat: bool, split_all: bool = False) -> None:
        self.before = Reader(engine, a)
        self.after = Reader(engine, b)
        self.touched: set[int] = set()
        self.flat = flat
        self.places = Places(self.before, self.after, split_all)
        self.lost: dict[bytes, tuple[bytes, int]] = {}
        """Names of the first state that lead to another inode, or to none, in the second: by the path that they
        would have there, with the path that they had."""
        self.gained: dict[bytes, int] = {}
        """The other way round, by their path."""
        self.kept: dict[bytes, tuple[bytes, int]] = {}
        """Path in the second state -> path in the first and inode, of names that were left alone."""

    def run(self) -> Steps[list[Change]]:
        """All changes, in no order."""
        self.touched = yield from touched_in_steps(self.before.engine.tree, self.before.layer, self.after.layer)
        for count, ino in enumerate(self.touched, start=1):
            self._enter(ino)
            if count % STEP_INODES == 0:
                yield
        for directory in self.places.split():
            self._enter_renamed(directory)
            self._enter_names(directory)
            yield
        for directory in self.places.carried():
            self._enter_renamed(directory)
            yield
        if self.flat:
            for directory in self.places.carried():
                yield from self._enter_below(directory)
        found: list[Change] = []
        for part in (self._changed_places(), self._lost_and_gained(), self._changed_files()):
            for count, change in enumerate(part, start=1):
                if change is not None:
                    found.append(change)
                if count % STEP_INODES == 0:
                    yield
        return found

    def _enter(self, ino: int) -> None:
        if ino == ROOT_INO:
            self.kept[ROOT_PATH] = (ROOT_PATH, ino)
            return
        old, new = self.before.names(ino), self.after.names(ino)
        for name in old:
            if name not in new:
                self._lose(name, ino)
        for name in new:
            if name not in old:
                self.gained[self.after.path(name)] = ino
            elif self.places.fate(name[0]) != SPLIT:
                self.kept[self.after.path(name)] = (self.before.path(name), ino)
        if old and new and self.after.is_directory(ino):
            self.places.fate(ino)

    def _lose(self, name: Name, ino: int) -> None:
        self.lost[self.places.following(name)] = (self.before.path(name), ino)

    def _enter_renamed(self, directory: int) -> None:
        [old], [new] = self.before.names(directory), self.after.names(directory)
        self._lose(old, directory)
        self.gained[self.after.path(new)] = directory

    def _enter_names(self, directory: int) -> None:
        """Enter the names that a directory has in both states as names that changed."""
        after = self.after.entries(directory)
        for name, child in self.before.entries(directory).items():
            if after.get(name) == child:
                if self.after.is_directory(child):
                    self.places.fate(child)
                else:
                    self._lose((directory, name), child)
                    self.gained[self.after.path((directory, name))] = child

    def _enter_below(self, directory: int) -> Steps[None]:
        """Enter everything that was carried along by a renamed directory."""
        pending = [directory]
        while pending:
            at = pending.pop()
            yield
            before = self.before.entries(at)
            for name, child in self.after.entries(at).items():
                if before.get(name) == child:
                    path = self.after.path((at, name))
                    self.kept[path] = (self.before.path((at, name)), child)
                    if self.after.is_directory(child):
                        pending.append(child)

    # These generate what they find, and None for what turns out to be no change: each is some work.

    def _changed_places(self) -> Iterator[Change | None]:
        """Paths that lead to another inode than before."""
        for path in self.lost.keys() & self.gained.keys():
            old_path, ino = self.lost.pop(path)
            before, after = self._old(ino), self._new(self.gained.pop(path))
            yield self._modified(path, old_path, before, after, self._differences(before, after))

    def _modified(
        self, path: bytes, old_path: bytes, before: File, after: File, what: tuple[str, ...]
    ) -> Change | None:
        """What to say of a path that both states have; its old one differs when a directory carried it along."""
        elsewhere = old_path if old_path != path else None
        if before.type != after.type:
            return Change(RETYPED, path, elsewhere, what, before, after)
        if self.flat and elsewhere is not None:
            return Change(RENAMED, path, elsewhere, what, before, after)
        return Change(MODIFIED, path, elsewhere, what, before, after) if what else None

    def _lost_and_gained(self) -> Iterator[Change]:
        """Paths that are in one state alone: renamed, deleted, added."""
        new_paths: dict[int, list[bytes]] = {}
        for path in sorted(self.gained, reverse=True):
            new_paths.setdefault(self.gained[path], []).append(path)
        for path, ino in sorted(self.lost.values()):
            before = self._old(ino)
            places = new_paths.get(ino)
            if places:
                after = self._new(ino)
                what = self._differences(before, after)
                yield Change(RENAMED, places.pop(), path, what, before, after)
            else:
                yield Change(DELETED, path, None, (), before, None)
        for ino, places in new_paths.items():
            after = self._new(ino)
            yield from (Change(ADDED, path, None, (), None, after) for path in places)

    def _changed_files(self) -> Iterator[Change | None]:
        """Names that are as they were, of files that are not."""
        differences: dict[int, tuple[str, ...]] = {}
        for path, (old_path, ino) in self.kept.items():
            before, after = self._old(ino), self._new(ino)
            if ino not in differences:
                differences[ino] = self._differences(before, after)
            yield self._modified(path, old_path, before, after, differences[ino])

    def _old(self, ino: int) -> File:
        return File(ino, self.before.existing(ino))

    def _new(self, ino: int) -> File:
        return File(ino, self.after.existing(ino))

    def _differences(self, before: File, after: File) -> tuple[str, ...]:
        """What differs, in words; nothing when it is times alone."""
        if before.ino == after.ino and before.ino not in self.touched:
            return ()
        if before.type != after.type:
            return ("type",)
        old, new = before.record, after.record
        found = []
        if before.type == S_IFREG and not self._same_content(before, after):
            found.append("content")
        if before.type == S_IFLNK and self.before.target(before.ino) != self.after.target(after.ino):
            found.append("target")
        if old.rdev != new.rdev:
            found.append("device")
        if S_IMODE(old.mode) != S_IMODE(new.mode):
            found.append("mode")
        if (old.uid, old.gid) != (new.uid, new.gid):
            found.append("owner")
        if self.before.xattrs(before.ino) != self.after.xattrs(after.ino):
            found.append("xattrs")
        return tuple(found)

    def _same_content(self, before: File, after: File) -> bool:
        size = before.record.size
        return size == after.record.size and same_content(self.before, before.ino, self.after, after.ino, size)


def names_text(found: Iterable[Change]) -> bytes:
    """One line for each change, as `git diff --name-status` has it without the score."""
    lines = []
    for change in found:
        if change.kind == RENAMED:
            assert change.old_path is not None
            lines.append(b"R\t%b\t%b\n" % (quoted(change.old_path), quoted(change.path)))
        else:
            lines.append(b"%b\t%b\n" % (change.kind.encode(), quoted(change.path)))
    return b"".join(lines)


STEP_TOLD: Final = 200
"""Changes told in one step: about 1 ms."""


def names_in_steps(found: list[Change]) -> Steps[bytes]:
    """The same in steps."""
    lines = []
    for start in range(0, len(found), STEP_TOLD):
        lines.append(names_text(found[start : start + STEP_TOLD]))
        yield
    return b"".join(lines)


def json_in_steps(found: list[Change]) -> Steps[list[dict[str, Any]]]:
    """All changes for programs."""
    told: list[dict[str, Any]] = []
    for start in range(0, len(found), STEP_TOLD):
        told += map(as_json, found[start : start + STEP_TOLD])
        yield
    return told


def as_json(change: Change) -> dict[str, Any]:
    """A change for programs: paths as text, bytes that are no text as surrogate escapes."""
    found: dict[str, Any] = {"change": change.kind, "path": os.fsdecode(change.path)}
    if change.old_path is not None:
        found["old_path"] = os.fsdecode(change.old_path)
    found["what"] = list(change.what)
    for side, file in (("before", change.before), ("after", change.after)):
        if file is not None:
            record = file.record
            found[side] = {
                "type": _TYPES.get(file.type, "unknown"),
                "mode": f"{S_IMODE(record.mode):04o}",
                "uid": record.uid,
                "gid": record.gid,
                "size": record.size,
            }
    return found

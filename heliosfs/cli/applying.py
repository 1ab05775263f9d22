"""Writing the difference of two states onto a directory outside: first everything is checked, then written.

What the directory has at a path may be what the base has there, or already what is to be written; anything else is a
change that somebody made there, and nothing is written at all. Files are written beside the old one and renamed over
it, so each is one or the other at every moment. A run that was cut short can be repeated.
"""

import os
import stat
from typing import Any

from heliosfs.cli.copying import PIECE_BYTES, Copier, xattrs

_SUFFIX = b".heliosfs-apply"


class Plan:
    """What is to be done; `changes` are those of the branch, as the verb `changes` tells them."""

    def __init__(self, work: dict[str, Any], root: str, directory: str) -> None:
        self.changes: list[dict[str, Any]] = work["changes"]
        self.copier = Copier()
        self.done = 0
        self._inside = "" if work["path"] == "." else work["path"]
        self._base = os.fsencode(os.path.join(root, work["base"]))
        self._state = os.fsencode(os.path.join(root, work["state"]))
        self._outside = os.fsencode(directory)
        self._gone: list[bytes] = []
        self._new: list[bytes] = []
        for change in self.changes:
            old, new = change.get("old_path", change["path"]), change["path"]
            if "before" in change and (change["change"] in "DT" or old != new):
                self._gone.append(self._below(old))
            if "after" in change:
                self._new.append(self._below(new))
        self._gone.sort(reverse=True)
        self._new.sort()
        self.whole = len(self._gone) + len(self._new)

    def _below(self, path: str) -> bytes:
        """A path of the tree, counted from the directory."""
        found = os.path.relpath(path, self._inside) if self._inside else path
        return b"" if found == "." else os.fsencode(found)

    def replaced(self) -> list[bytes]:
        """The paths in the tree of what the directory will no longer have."""
        above = os.fsencode(self._inside)
        return [os.path.join(above, path) for path in {*self._gone, *self._new}]

    def check(self) -> list[bytes]:
        """The paths that have changed in the directory."""
        found = {path for path in {*self._gone, *self._new} if not self._expected(path)}
        gone = set(self._gone)
        for path in self._gone:
            outside = os.path.join(self._outside, path)
            if os.path.isdir(outside) and not os.path.islink(outside) and path not in self._new:
                names = (os.path.join(path, name) for name in os.listdir(outside))
                found.update(name for name in names if name not in gone and name not in self._new)
        return sorted(found)

    def _expected(self, path: bytes) -> bool:
        outside = os.path.join(self._outside, path)
        return same(outside, os.path.join(self._base, os.fsencode(self._inside), path)) or self._is_done(path)

    def _is_done(self, path: bytes) -> bool:
        return same(os.path.join(self._outside, path), os.path.join(self._state, os.fsencode(self._inside), path))

    def write(self) -> None:
        """Remove what is gone, from the depth up; then make what is new, from above down; directories' attributes and
        times last."""
        directories = []
        new = set(self._new)
        above = {os.path.dirname(path) for path in (*self._gone, *self._new)} - new
        for path in self._gone:
            self.done += 1
            if path not in new or not self._is_done(path):
                self._remove(path, keep_file=path in new)
        for path in self._new:
            self.done += 1
            source = os.path.join(self._state, os.fsencode(self._inside), path)
            target = os.path.join(self._outside, path)
            found = os.lstat(source)
            if stat.S_ISDIR(found.st_mode):
                if not os.path.isdir(target):
                    os.mkdir(target, 0o700)
                directories.append((source, target, found))
            elif not self._is_done(path):
                self._replace(source, target, found)
        for source, target, found in reversed(directories):
            self.copier.attributes(source, target, found)
        for path in above:
            source = os.path.join(self._state, os.fsencode(self._inside), path)
            if os.path.isdir(source):
                found = os.lstat(source)
                os.utime(os.path.join(self._outside, path), ns=(found.st_atime_ns, found.st_mtime_ns))

    def _remove(self, path: bytes, *, keep_file: bool) -> None:
        target = os.path.join(self._outside, path)
        if os.path.isdir(target) and not os.path.islink(target):
            os.rmdir(target)
        elif os.path.lexists(target) and not (keep_file and self._is_file(path)):
            os.unlink(target)

    def _is_file(self, path: bytes) -> bool:
        """Whether what is to be put there can be renamed over what is there."""
        source = os.path.join(self._state, os.fsencode(self._inside), path)
        return not os.path.isdir(source) or os.path.islink(source)

    def _replace(self, source: bytes, target: bytes, found: os.stat_result) -> None:
        above, name = os.path.split(target)
        beside = os.path.join(above, b"." + name[:200] + _SUFFIX)
        if os.path.lexists(beside):
            os.unlink(beside)
        self.copier.entry(source, beside, found)
        self.copier.moved(found, target)
        os.rename(beside, target)


def same(left: bytes, right: bytes) -> bool:
    """Whether two paths lead to the same: type, mode, content, extended attributes; or both to nothing."""
    try:
        a = os.lstat(left)
    except (FileNotFoundError, NotADirectoryError):
        return not os.path.lexists(right)
    try:
        b = os.lstat(right)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if a.st_mode != b.st_mode or xattrs(left) != xattrs(right):
        return False
    if stat.S_ISLNK(a.st_mode):
        return os.readlink(left) == os.readlink(right)
    if stat.S_ISREG(a.st_mode):
        return a.st_size == b.st_size and _same_bytes(left, right)
    return stat.S_ISDIR(a.st_mode) or a.st_rdev == b.st_rdev


def _same_bytes(left: bytes, right: bytes) -> bool:
    with open(left, "rb") as first, open(right, "rb") as second:
        while data := first.read(PIECE_BYTES):
            if data != second.read(PIECE_BYTES):
                return False
    return True

"""What became of the directories that two states both have, and of the paths in them.

A directory with the same path is *steady*. One that was renamed is *carried* when nothing else was at its new place
before and nothing else is at its old place now; everything in it came along, so only the rename needs to be told.
Otherwise it is *split*: paths have changed their meaning, and each name in it has to be told for itself.

A name of the first state has a *following* path in the second: the one it has, or would have had it been left alone
while the directories around it were renamed. Where a directory is gone or split that is the same path as before.
To treat a carried directory as split is never wrong, only longer; so where two decisions wait for each other (two
directories that changed who is in whom) one is made so.
"""

from collections.abc import Iterator
from typing import Final

from heliosfs.base.errors import Corruption
from heliosfs.base.keys import ROOT_INO
from heliosfs.volume.reader import Name, Reader

STEADY: Final = 0
CARRIED: Final = 1
SPLIT: Final = 2


class Places:
    """The directories of two states."""

    def __init__(self, before: Reader, after: Reader, split_all: bool = False) -> None:
        self._before = before
        self._after = after
        self._split_all = split_all
        self._fates: dict[int, int] = {ROOT_INO: STEADY}
        self._deciding: set[int] = set()
        self._following: dict[int, bytes] = {ROOT_INO: b""}
        self._preceding: dict[int, bytes] = {ROOT_INO: b""}
        self._split: list[int] = []
        self._carried: list[int] = []

    def split(self) -> Iterator[int]:
        """The split directories, with those that are found to be so meanwhile."""
        yield from self._split

    def carried(self) -> list[int]:
        """The carried directories, without those that only came along with another one."""
        return self._carried

    def fate(self, directory: int) -> int:
        """What became of a directory that both states have. Once told it does not change."""
        chain: list[int] = []
        at = directory
        while at not in self._fates:
            if at in self._deciding:
                self._set(at, SPLIT)
                break
            chain.append(at)
            names = self._after.names(at)
            if names != self._before.names(at):
                break
            if len(names) != 1 or at in chain[:-1]:
                raise Corruption("directory", f"inode {at}, which has no way up to the root")
            at = names[0][0]
        for at in reversed(chain):
            self._decide(at)
        return self._fates[directory]

    def _set(self, directory: int, fate: int) -> None:
        self._fates[directory] = fate
        if fate == SPLIT:
            self._split.append(directory)

    def _decide(self, directory: int) -> None:
        if directory in self._fates:
            return
        if self._before.directory(directory) == self._after.directory(directory):
            self._set(directory, STEADY)
            return
        [old], [new] = self._before.names(directory), self._after.names(directory)
        if old == new and self._fates[new[0]] == CARRIED:
            self._set(directory, CARRIED)
            return
        self._deciding.add(directory)
        free = not self._split_all and self._is_free(old, new)
        self._deciding.discard(directory)
        if directory in self._fates:
            return
        self._set(directory, CARRIED if free else SPLIT)
        if free:
            self._carried.append(directory)

    def _is_free(self, old: Name, new: Name) -> bool:
        """Whether a directory left its old place to nothing and came to a new place where nothing was."""
        before, after = self._before, self._after
        return (
            after.find(before.path(old)) is None
            and before.find(after.path(new)) is None
            and after.find(self.following(old)) is None
            and before.find(self._preceding_path(new)) is None
        )

    def following(self, name: Name) -> bytes:
        """The path that a name of the first state has in the second, whether or not anything is there."""
        return _below(self._translated(name[0], self._before, self._after, self._following), name[1])

    def _preceding_path(self, name: Name) -> bytes:
        return _below(self._translated(name[0], self._after, self._before, self._preceding), name[1])

    def _translated(self, directory: int, source: Reader, target: Reader, known: dict[int, bytes]) -> bytes:
        """The path of a directory of `source` in `target`; it need not be there."""
        chain: list[Name] = []
        passed: list[int] = []
        at = directory
        while at not in known:
            if target.is_directory(at) and self.fate(at) != SPLIT:
                known[at] = target.directory(at)
                break
            names = source.names(at)
            if len(names) != 1 or len(passed) > DEPTH_MAX:
                raise Corruption("directory", f"inode {at}, which has no way up to the root")
            passed.append(at)
            chain.append(names[0])
            at = names[0][0]
        path = known[at]
        for at, name in zip(reversed(passed), reversed(chain), strict=True):
            path = known[at] = _below(path, name[1])
        return path


DEPTH_MAX: Final = 1 << 20
"""A tree is not deeper: each level has an inode, and whoever made so many would wait for days."""


def _below(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name

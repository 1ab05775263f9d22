"""What a merge left open, and how it is settled.

While a merge has conflicts, two snapshots of the branch that was merged into, `.merge-N.base` and `.merge-N.theirs`,
show the common base and the other branch as they were; N is the number of the merge in the operation log. The second
one holds the conflicts. They go when the last conflict is settled.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from stat import S_IFDIR, S_IFMT, S_IFREG, S_IMODE
from typing import Any, Final

from msgspec.structs import replace

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.base.keys import ROOT_INO
from heliosfs.layers import stack
from heliosfs.view.adoption import Foreign
from heliosfs.view.inode import Caller, Inode
from heliosfs.view.view import View
from heliosfs.volume import refs
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.draft import Draft
from heliosfs.volume.naming import text
from heliosfs.volume.reader import Reader
from heliosfs.volume.refs import ConflictRecord, snapshot_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction

# Kinds. They are on disk and in reports: the words never change.
CONTENT: Final = "content"
"""Both changed the content, and not line by line apart."""
ATTRIBUTES: Final = "attributes"
"""Both changed the mode, the owner or the same extended attribute."""
TYPE: Final = "type"
"""One changed what kind of file it is, the other changed it otherwise."""
BOTH_ADDED: Final = "both added"
"""Both put something at this path, and not the same."""
DELETED_BY_THEM: Final = "deleted by them"
"""They deleted what we changed, or a directory in which we put something."""
DELETED_BY_US: Final = "deleted by us"
"""We deleted what they changed, or a directory in which they put something."""
RENAMED: Final = "renamed"
"""Both renamed it, differently, or it cannot be where they moved it to."""

OURS: Final = "ours"
THEIRS: Final = "theirs"
MERGED: Final = "merged"
WAYS: Final = (OURS, THEIRS, MERGED)
"""How a conflict is settled."""

PREFIX: Final = b".merge-"


def base_name(number: int) -> bytes:
    """The name of the snapshot that shows the common base of a merge."""
    return PREFIX + b"%d.base" % number


def theirs_name(number: int) -> bytes:
    """The name of the snapshot that shows what was merged."""
    return PREFIX + b"%d.theirs" % number


def place(conflict: ConflictRecord) -> bytes:
    """The path by which a conflict is called: ours, else theirs."""
    return next(path for path in (conflict.ours, conflict.theirs, conflict.base) if path is not None)


def open_merge(branch: Branch) -> Snapshot | None:
    """The snapshot that holds the open conflicts of a branch."""
    return next((each for each in branch.snapshots.values() if each.record.conflicts), None)


def as_json(conflict: ConflictRecord, snapshot: Snapshot | None) -> dict[str, Any]:
    """A conflict for programs: the paths of what there is, seen from the root of the tree."""
    found: dict[str, Any] = {"path": os.fsdecode(place(conflict)), "kind": conflict.kind}
    paths = (conflict.ours, conflict.base, conflict.theirs)
    for side, path in zip(("ours", "base", "theirs"), paths, strict=True):
        found[side] = None if path is None else os.fsdecode(path)
    if snapshot is not None:
        stem = snapshot.name.removesuffix(b".theirs")
        for side, path in (("base", conflict.base), ("theirs", conflict.theirs)):
            if path is not None:
                found[f"{side}_at"] = os.fsdecode(b".snapshots/%b.%b/%b" % (stem, side.encode(), path))
    return found


def open_conflicts(branch: Branch) -> list[dict[str, Any]]:
    """All that merges into a branch left open, for programs."""
    snapshot = open_merge(branch)
    return [] if snapshot is None else [as_json(conflict, snapshot) for conflict in snapshot.record.conflicts]


def check_not_held(snapshot: Snapshot) -> None:
    """Refuse to remove or rename what shows a side of an open conflict."""
    if not snapshot.name.endswith((b".theirs", b".base")):
        return  # without a look at all snapshots of the branch
    merge = open_merge(snapshot.branch)
    if merge is not None and snapshot.name in (merge.name, merge.name.removesuffix(b".theirs") + b".base"):
        raise Refusal(errno.EBUSY, "the snapshot belongs to a merge with open conflicts: resolve those first")


def resolve(registry: Registry, branch: Branch, path: bytes, how: str, caller: Caller) -> set[int]:
    """Settle the conflicts at a path. Returns the numbers of the inodes that may have changed."""
    if how not in WAYS:
        raise Refusal(errno.EINVAL, f"a conflict is settled by one of {', '.join(WAYS)}, not {how!r}")
    snapshot = open_merge(branch)
    wanted = path.strip(b"/") or b"."
    found = [] if snapshot is None else [each for each in snapshot.record.conflicts if place(each) == wanted]
    if snapshot is None or not found:
        raise Refusal(errno.ENOENT, f"there is no conflict at {text(wanted)!r}: `heliosfs conflicts` lists them")
    what = f"{text(wanted)} as {how}"
    left = [each for each in snapshot.record.conflicts if each not in found]
    if how != THEIRS:
        transaction = Transaction(registry)
        _settling(branch, snapshot, left)(transaction)
        transaction.commit("resolve", what, caller, branch.id)
        return set()
    draft = Draft(registry, branch)
    theirs = Taker(draft.view, Reader(registry.engine, snapshot.state))
    stood = [theirs.number_of_ours(each) for each in left]
    for _, conflict in theirs.in_turn(in_order_of_taking(found)):
        theirs.take(conflict)
    left = list(map(theirs.followed, left, stood))
    return draft.commit("resolve", what, caller, also=_settling(branch, snapshot, left))


def _settling(branch: Branch, snapshot: Snapshot, left: list[ConflictRecord]) -> Callable[[Transaction], None]:
    """Adds to a transaction that only these conflicts are left."""

    def settle(transaction: Transaction) -> None:
        if left:
            record = replace(snapshot.record, conflicts=left)
            transaction.put(snapshot_key(branch.id, snapshot.name), refs.encode(record))
            return
        transaction.remove(snapshot_key(branch.id, snapshot.name))
        base = snapshot.name.removesuffix(b".theirs") + b".base"
        if base in branch.snapshots:
            transaction.remove(snapshot_key(branch.id, base))

    return settle


def foreign(reader: Reader, ino: int) -> Foreign:
    """All of an inode of another state but its names."""
    record = reader.existing(ino)
    is_file = S_IFMT(record.mode) == S_IFREG
    extents = reader.extents(ino, 0, record.size) if is_file else []
    return Foreign(ino, record, reader.xattrs(ino), reader.target(ino), extents)


def copy_attributes(view: View, inode: Inode, reader: Reader, ino: int) -> None:
    """Let an inode have the mode, owner and extended attributes of one in another state."""
    record, wanted = reader.existing(ino), reader.xattrs(ino)
    view.set_attributes(inode, uid=record.uid, gid=record.gid, mode=S_IMODE(record.mode))
    for name in view.list_xattrs(inode):
        if name not in wanted:
            view.remove_xattr(inode, name)
    for name, value in wanted.items():
        view.set_xattr(inode, name, value)


_TAKEN: Final = {RENAMED: 1, DELETED_BY_THEM: 2, BOTH_ADDED: 3, DELETED_BY_US: 3}


def in_order_of_taking(found: Iterable[ConflictRecord]) -> list[ConflictRecord]:
    """Conflicts in the order in which their side is taken: what is about a file itself as long as it is where it was,
    then what moves it away, what removes it, and what puts another one there."""
    return sorted(found, key=lambda each: _TAKEN.get(each.kind, 0))


class Taker:
    """Takes their side of conflicts into a view, or the base, whichever it was made with."""

    def __init__(self, view: View, theirs: Reader) -> None:
        self._view = view
        self._theirs = theirs

    def take(self, conflict: ConflictRecord) -> None:
        """Make of one conflict what they have. A refusal has changed nothing but to make directories."""
        ours = None if conflict.ours is None else self._find(conflict.ours)
        if conflict.theirs is None:
            if ours is not None:
                self._remove_theirs(conflict)
            return
        ino = ROOT_INO if conflict.theirs == b"." else self._theirs.find(conflict.theirs)
        assert ino is not None
        if ours is None or conflict.ours is None:
            self._put(self._directory(_above(conflict.theirs)), _name(conflict.theirs), ino)
        elif conflict.kind == RENAMED:
            self._move(conflict.ours, conflict.theirs, ours)
        elif ours.ino == ino or self._can_become(ours, ino):
            if ours.is_file:
                self._view.take_content(ours, foreign(self._theirs, ino), now())
            copy_attributes(self._view, ours, self._theirs, ino)
        else:
            self._put(self._view.resolve(_above(conflict.ours)), _name(conflict.ours), ino)

    def _can_become(self, ours: Inode, ino: int) -> bool:
        """Whether one of ours can have all that one of theirs has; what a link leads to, say, cannot be changed."""
        kind = S_IFMT(ours.mode)
        return kind in (S_IFREG, S_IFDIR) and S_IFMT(self._theirs.existing(ino).mode) == kind

    def in_turn(self, conflicts: Iterable[ConflictRecord]) -> Iterator[tuple[ConflictRecord, ConflictRecord]]:
        """Each of several conflicts that are taken one after the other, and what it is once those before were."""
        stood = [(each, self.number_of_ours(each)) for each in conflicts]
        for conflict, ino in stood:
            yield conflict, self.followed(conflict, ino)

    def number_of_ours(self, conflict: ConflictRecord) -> int:
        """Of the inode that a conflict is about; 0 where we have none."""
        ours = None if conflict.ours is None else self._find(conflict.ours)
        return 0 if ours is None else ours.ino

    def followed(self, conflict: ConflictRecord, ino: int) -> ConflictRecord:
        """A conflict that is still open, about the inode that it was about before others were taken: wherever that has
        gone, so that it is not mistaken for what has come to its place. One about a place has nothing of ours then."""
        if not ino or self.number_of_ours(conflict) == ino:
            return conflict
        paths = [] if conflict.kind == BOTH_ADDED else self._view.paths(ino)
        return replace(conflict, ours=next(iter(paths), None))

    def take_base(self, conflict: ConflictRecord) -> None:
        """Make of one conflict what the base has."""
        if conflict.base is not None:
            self.take(replace(conflict, theirs=conflict.base))
        elif conflict.ours is not None and self._find(conflict.ours) is not None:
            self._remove(self._view.resolve(_above(conflict.ours)), _name(conflict.ours))

    def _remove_theirs(self, conflict: ConflictRecord) -> None:
        """Remove what they removed, and the directories above it that they have not got either."""
        assert conflict.ours is not None and conflict.base is not None
        path, base = conflict.ours, conflict.base
        self._remove(self._view.resolve(_above(path)), _name(path))
        while (path := _above(path)) and path == (base := _above(base)) and self._theirs.find(path) is None:
            if self._view.entries(self._view.resolve(path)):
                break
            self._remove(self._view.resolve(_above(path)), _name(path))

    def _find(self, path: bytes) -> Inode | None:
        try:
            return self._view.resolve(path)
        except Refusal:
            return None

    def _move(self, old: bytes, new: bytes, ours: Inode) -> None:
        """Put what we have elsewhere where they have it, over whatever is there."""
        parent, source = self._directory(_above(new)), self._view.resolve(_above(old))
        there = self._view.lookup(parent, _name(new))
        if there is ours:
            return
        if self._is_in(parent, ours) or (there is not None and self._is_in(source, there)):
            raise Refusal(errno.EINVAL, f"{text(old)} cannot be moved to {text(new)}: one is in the other")
        self._make_room(parent, _name(new))
        self._view.rename(source, _name(old), parent, _name(new))

    def _make_room(self, parent: Inode, name: bytes) -> None:
        """Free a name. What we moved here and they have elsewhere goes there, if it can; anything else is removed."""
        there = self._view.lookup(parent, name)
        if there is None:
            return
        for above, called in self._theirs.names(there.ino):
            home = self._view.inode(above) if self._has(above) else None
            if home is not None and self._view.lookup(home, called) is None and not self._is_in(home, there):
                self._view.rename(parent, name, home, called)
                return
        self._remove(parent, name)

    def _is_in(self, directory: Inode, above: Inode) -> bool:
        while directory is not above and directory.ino != ROOT_INO:
            directory = self._view.parent(directory)
        return directory is above

    def _put(self, parent: Inode, name: bytes, ino: int) -> None:
        """Put one of their files here, over whatever is there, or a directory with all that is in it."""
        self._make_room(parent, name)
        pending = [(parent, name, ino)]
        while pending:
            above, called, number = pending.pop()
            inode = self._view.adopt(above, called, foreign(self._theirs, number), renumber=self._has(number))
            if inode.is_directory:
                pending.extend((inode, entry, child) for entry, child in self._theirs.entries(number).items())

    def _directory(self, path: bytes) -> Inode:
        """Our directory for one of theirs: the same one wherever it is, else the one at the path within that; made
        if there is none."""
        missing: list[tuple[bytes, int]] = []
        at, ino = path, self._theirs.find(path) if path else ROOT_INO
        assert ino is not None
        while not self._has(ino):
            missing.append((_name(at), ino))
            at = _above(at)
            above = self._theirs.find(at) if at else ROOT_INO
            assert above is not None
            ino = above
        directory = self._view.inode(ino)
        for name, number in reversed(missing):
            found = self._view.lookup(directory, name)
            if found is None:
                found = self._view.adopt(directory, name, foreign(self._theirs, number))
            elif not found.is_directory:
                raise Refusal(errno.ENOTDIR, f"{text(path)}: {text(name)} is not a directory here")
            directory = found
        return directory

    def _has(self, ino: int) -> bool:
        return stack.find_inode(self._view.engine.tree, self._view.top, ino) is not None

    def _remove(self, parent: Inode, name: bytes) -> None:
        """Remove a name with all below it."""
        view = self._view
        pending = [(parent, name)]
        while pending:
            above, called = pending[-1]
            inode = view.lookup(above, called)
            assert inode is not None
            if not inode.is_directory:
                view.unlink(above, called)
            elif found := view.entries(inode):
                pending.extend((inode, entry) for entry, _, _ in found)
                continue
            else:
                view.rmdir(above, called)
            pending.pop()


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]

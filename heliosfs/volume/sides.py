"""How one state came from a base, in names: what was moved, replaced, deleted and added.

A name is a *slot*: a directory and a name in it. Directories are followed by identity, so what was done inside a
renamed directory needs no translation of paths. Where one was replaced by a new one at the same place (removed and
copied back, or made by both sides), the new one stands for the old one: slots speak of *homes*, the inode number
that the directory has in the base if it has any.

Likewise a new file in the place of an old one (most editors save so) is the old one edited. A file that the base has
elsewhere was moved, whatever was in its way.
"""

from stat import S_IFDIR, S_IFMT

from heliosfs.base.keys import ROOT_INO
from heliosfs.base.records import ENTRY_TYPE_BITS
from heliosfs.base.steps import Steps
from heliosfs.layers import stack
from heliosfs.volume.reader import Reader, same_content

Slot = tuple[int, bytes]


def is_directory(reader: Reader, ino: int) -> bool:
    """Whether a state has a directory of that number."""
    record = reader.record(ino)
    return record is not None and S_IFMT(record.mode) == S_IFDIR


def child(reader: Reader, slot: Slot) -> int | None:
    """The inode number at a slot of one state."""
    found = stack.find_entry(reader.engine.tree, reader.layer, *slot)
    return None if found is None else found >> ENTRY_TYPE_BITS


def differences(before: Reader, old: int, after: Reader, new: int) -> set[str]:
    """What differs between two inodes: type, content, mode, owner, xattrs; nothing when it is times alone."""
    left, right = before.existing(old), after.existing(new)
    if S_IFMT(left.mode) != S_IFMT(right.mode):
        return {"type"}
    found = set()
    if not _same_data(before, old, after, new):
        found.add("content")
    if left.mode != right.mode:
        found.add("mode")
    if (left.uid, left.gid) != (right.uid, right.gid):
        found.add("owner")
    if before.xattrs(old) != after.xattrs(new):
        found.add("xattrs")
    return found


def _same_data(before: Reader, old: int, after: Reader, new: int) -> bool:
    """Whether two inodes of one type hold the same: bytes, a target, a device; directories always do."""
    left, right = before.existing(old), after.existing(new)
    if S_IFMT(left.mode) == S_IFDIR:
        return True
    if left.size != right.size or left.rdev != right.rdev or before.target(old) != after.target(new):
        return False
    return same_content(before, old, after, new, left.size)


_STEP_INODES = 64
"""Looked at in one step: about 1 ms."""


class Side:
    """One state beside the base, of use after `find_changes`. `other` is the side that new directories are to be
    matched with."""

    def __init__(self, base: Reader, state: Reader, touched: set[int], other: "Side | None" = None) -> None:
        self.base = base
        self.state = state
        self.touched = touched
        self.other = other
        self.replaced: dict[Slot, int] = {}
        self.moved: dict[Slot, Slot] = {}
        self.deleted: dict[Slot, int] = {}
        self.added: dict[Slot, int] = {}
        self.stand_ins: dict[int, int] = {}
        """Home -> the directory that stands for it."""
        self._homes: dict[int, int] = {ROOT_INO: ROOT_INO}
        self._actual: dict[int, int | None] = {}

    # Directories

    def home(self, directory: int) -> int:
        """What a directory of this side is called in slots."""
        chain: list[int] = []
        at = directory
        while at not in self._homes:
            if is_directory(self.base, at):
                self._homes[at] = at
            else:
                chain.append(at)
                at = self.state.names(at)[0][0]
        for at in reversed(chain):
            above, name = self.state.names(at)[0]
            self._homes[at] = self._identify(at, (self._homes[above], name))
        return self._homes[directory]

    def _identify(self, directory: int, slot: Slot) -> int:
        """The home of a directory that the base does not have."""
        before = child(self.base, slot)
        if before is not None and is_directory(self.base, before) and self.state.record(before) is None:
            return before
        if self.other is not None:
            return self.other.match(directory, slot, self.state)
        return directory

    def match(self, directory: int, slot: Slot, state: Reader) -> int:
        """What a new directory of the other side stands for: one that was made here at the same place."""
        above = self.actual(slot[0])
        mine = None if above is None else child(self.state, (above, slot[1]))
        if mine is None or not is_directory(self.state, mine) or self.home(mine) != mine:
            return directory
        if is_directory(self.base, mine) or (mine != directory and state.record(mine) is not None):
            return directory
        return mine

    def actual(self, home: int) -> int | None:
        """The directory of this side that stands for a home, None when there is none."""
        chain: list[int] = []
        at = home
        while at not in self._actual:
            if is_directory(self.state, at):
                self._actual[at] = at
            elif self.base.names(at):
                chain.append(at)
                at = self.base.names(at)[0][0]
            else:
                self._actual[at] = self.stand_ins.get(at)
        for at in reversed(chain):
            above, name = self.base.names(at)[0]
            directory = self._actual[above]
            found = None if directory is None else child(self.state, (directory, name))
            fits = found is not None and is_directory(self.state, found) and self.home(found) == at
            self._actual[at] = found if fits else None
        return self._actual[home]

    # Names

    def names(self, ino: int) -> list[Slot]:
        """All slots of an inode in this state, sorted."""
        return sorted((self.home(directory), name) for directory, name in self.state.names(ino))

    def find_changes(self) -> Steps[None]:
        """Fill what is told here, in steps."""
        lost: dict[Slot, int] = {}
        gained: dict[Slot, int] = {}
        for count, ino in enumerate(sorted(self.touched - {ROOT_INO})):
            if count % _STEP_INODES == 0:
                yield
            if is_directory(self.state, ino) and self.home(ino) != ino:
                self.stand_ins[self.home(ino)] = ino
                continue
            if is_directory(self.base, ino) and self.state.record(ino) is None and self.actual(ino) is not None:
                continue
            before, after = self.base.names(ino), self.names(ino)
            lost.update((slot, ino) for slot in before if slot not in after)
            gained.update((slot, ino) for slot in after if slot not in before)
        self._find_replaced(lost, gained)
        self._find_moved(lost, gained)
        self.deleted, self.added = lost, gained

    def _find_replaced(self, lost: dict[Slot, int], gained: dict[Slot, int]) -> None:
        for slot in lost.keys() & gained.keys():
            old, new = lost[slot], gained[slot]
            if self.base.record(new) is None and not (is_directory(self.base, old) or is_directory(self.state, new)):
                self.replaced[slot] = new
                del lost[slot], gained[slot]

    def _find_moved(self, lost: dict[Slot, int], gained: dict[Slot, int]) -> None:
        places: dict[int, list[Slot]] = {}
        for slot in sorted(gained, reverse=True):
            places.setdefault(gained[slot], []).append(slot)
        for slot in sorted(lost):
            if places.get(lost[slot]):
                self.moved[slot] = places[lost[slot]].pop()
                del gained[self.moved[slot]], lost[slot]

    def fate(self, slot: Slot) -> tuple[Slot, int] | None:
        """Where what the base has at a slot is now, and which inode it is; None when it was deleted."""
        if slot in self.deleted:
            return None
        if slot in self.replaced:
            return slot, self.replaced[slot]
        ino = child(self.base, slot)
        assert ino is not None
        if is_directory(self.base, ino):
            ino = self.actual(ino)
            assert ino is not None
        return self.moved.get(slot, slot), ino

    def is_followed(self, ino: int) -> bool:
        """Whether an inode of the base goes on as itself under some name, and not as what came in its place."""
        return any(slot not in self.replaced and slot not in self.deleted for slot in self.base.names(ino))

    def changed_slots(self) -> set[Slot]:
        """The slots of the base of which this side made something else: elsewhere, replaced, deleted, edited."""
        found = {*self.replaced, *self.moved, *self.deleted}
        for ino in self.touched:
            found.update(slot for slot in self.base.names(ino) if slot not in found)
        return found

    # Paths

    def path(self, slot: Slot) -> bytes:
        """The path of a slot that this side has."""
        directory = self.actual(slot[0])
        assert directory is not None
        return self.state.path((directory, slot[1]))

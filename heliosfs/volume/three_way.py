"""What one state of a tree changed, done to another one: the heart of a merge.

Names first: what they moved is moved, what they deleted is deleted, what they added is put in under its own inode
number; then each file and directory that both have, part by part. What we changed alone stays as it is. Where both
changed the same thing and not in the same way, ours stays and a conflict says so.

It is decided before anything is moved which places can be had: a place counts as free when what is there will have
left it. So nothing that is begun has to be taken back.
"""

from collections.abc import Iterable
from typing import NamedTuple

from heliosfs.base.clock import now
from heliosfs.base.keys import ROOT_INO
from heliosfs.base.records import ENTRY_TYPE_BITS
from heliosfs.base.steps import Steps
from heliosfs.layers import stack
from heliosfs.layers.layer import Layer
from heliosfs.view.inode import Inode
from heliosfs.view.view import View
from heliosfs.volume.conflicts import BOTH_ADDED, DELETED_BY_THEM, DELETED_BY_US, RENAMED, foreign
from heliosfs.volume.difference import touched_in_steps
from heliosfs.volume.inode_merge import InodeMerge
from heliosfs.volume.reader import Reader
from heliosfs.volume.refs import ConflictRecord
from heliosfs.volume.sides import Side, Slot, child, differences, is_directory


class _Move(NamedTuple):
    """An inode of ours goes from a place (as it is in our tree) to a slot."""

    ino: int
    source: Slot
    target: Slot
    origin: Slot
    """Its slot in the base."""


class _Addition(NamedTuple):
    """An inode of theirs goes to a slot, or one that we have gets another name there."""

    ino: int
    target: Slot


class _Removal(NamedTuple):
    """A directory of ours that they deleted, where it is, and its slot in the base."""

    ino: int
    home: int
    source: Slot
    origin: Slot


class _At(NamedTuple):
    """Where something is: the place in our tree, the slots in the base and on their side."""

    place: Slot | None
    base: Slot | None
    theirs: Slot | None


class _Open(NamedTuple):
    """A conflict about an inode of ours; which of our paths it is at is known in the end."""

    kind: str
    ino: int | None
    ours: bytes | None
    base: bytes | None
    theirs: bytes | None


class ThreeWay:
    """One merge into `view`, which shows `ours` at first. Each instance runs once."""

    def __init__(self, view: View, base: Layer, ours: Layer, theirs: Layer, paths: Iterable[bytes] = ()) -> None:
        engine = view.engine
        self.view = view
        self.base = Reader(engine, base)
        self.mine = Reader(engine, ours)
        self.their = Reader(engine, theirs)
        self.ours = Side(self.base, self.mine, set())
        self.theirs = Side(self.base, self.their, set(), self.ours)
        self._wanted_paths = list(paths)
        self._inodes = InodeMerge(view, self.base, self.mine, self.their, now())
        self._open: list[_Open] = []
        self._moves: list[_Move] = []
        self._additions: list[_Addition] = []
        self._removals: list[_Removal] = []
        self._deletions: set[Slot] = set()
        """Places, in our tree, of names that go."""
        self._held: set[Slot] = set()
        """Places that do not become free because of a conflict at them."""
        self._vacant: set[Slot] = set()
        """Places that become free, and directories that go, once it is decided what is moved and removed."""
        self._leaving: set[int] = set()
        self._kept: set[int] = set()
        """Directories of the base that they deleted and we keep as they are."""
        self._unplaced: set[int] = set()
        """Directories of theirs that have no place in our tree; a conflict stands for all that is in them."""
        self._new: dict[int, Slot] = {}
        """Directories of theirs that will be put in."""
        self._merged: set[tuple[int | None, int, int]] = set()
        self._twins: dict[int, int] = {}
        """Inode of theirs -> the inode of ours that is the same file."""
        self._adopted: dict[int, int] = {}
        """Inode of theirs -> the number under which it was put in."""

    def run(self) -> Steps[list[ConflictRecord]]:
        """Change the view, in steps; what was left open. None of the three states may change meanwhile."""
        yield from self._compare()
        if self.base.record(ROOT_INO) is not None and self._wanted(b"."):
            for kind in (yield from self._inodes.merge(None, ROOT_INO, ROOT_INO, ROOT_INO))[1]:
                self._open.append(_Open(kind, ROOT_INO, b".", b".", b"."))
        changed: list[tuple[bytes, Slot]] = []
        for slot in self.theirs.changed_slots():
            changed.append((self.base.path(slot), slot))
            yield
        for _, slot in sorted(changed):
            yield from self._decide(slot)
            yield
        yield from self._choose_additions()
        yield from self._find_places()
        for _, addition in (yield from self._by_path(self._additions)):
            self._check_addition(addition)
            yield
        yield from self._carry_out()
        return self._conflicts()

    def _compare(self) -> Steps[None]:
        """Find what each side did."""
        tree, base = self.view.engine.tree, self.base.layer
        for side in (self.ours, self.theirs):
            side.touched = yield from touched_in_steps(tree, base, side.state.layer)
            yield from side.find_changes()

    def _conflicts(self) -> list[ConflictRecord]:
        found = []
        for kind, ino, hint, base, theirs in self._open:
            ours = None
            if ino is not None:
                paths = [path or b"." for path in self.view.paths(ino)]
                ours = hint if hint in paths else paths[0]
            found.append(ConflictRecord(kind, ours, base, theirs))
        return sorted(found, key=lambda each: (each.ours or each.theirs or b"", each.kind == RENAMED, each.kind))

    def _conflict(self, kind: str, ino: int | None, at: _At) -> None:
        """Note a conflict about an inode of ours, or about something that we do not have."""
        ours = None if at.place is None else self.mine.path(at.place)
        base = None if at.base is None else self.base.path(at.base)
        theirs = None if at.theirs is None else self.theirs.path(at.theirs)
        self._open.append(_Open(kind, ino, ours, base, theirs))
        if at.place is not None:
            self._held.add(at.place)

    # What becomes of the names that the base has

    def _decide(self, slot: Slot) -> Steps[None]:
        old = child(self.base, slot)
        assert old is not None
        ours, theirs = self.ours.fate(slot), self.theirs.fate(slot)
        paths = [side.path(fate[0]) for side, fate in ((self.ours, ours), (self.theirs, theirs)) if fate]
        if not self._wanted(self.base.path(slot), *paths):
            return
        if theirs is None:
            if ours is not None:
                self._decide_deletion(slot, old, *ours)
        elif ours is None:
            changed = theirs[0] != slot or differences(self.base, old, self.their, theirs[1])
            if changed and not self._is_covered(theirs[0]):
                self._conflict(DELETED_BY_US, None, _At(None, slot, theirs[0]))
                self._unplaced.add(theirs[1])
        else:
            self._decide_place(slot, ours, theirs)
            yield from self._merge_inode(_At(self._place(ours[0]), slot, theirs[0]), old, ours[1], theirs[1])

    def _decide_place(self, slot: Slot, ours: tuple[Slot, int], theirs: tuple[Slot, int]) -> None:
        if theirs[0] in (slot, ours[0]):
            return
        if ours[0] == slot:
            self._moves.append(_Move(ours[1], self._place(slot), theirs[0], slot))
            if self._wanted_paths:
                self._wanted_paths.append(self.theirs.path(theirs[0]))
        else:
            self._conflict(RENAMED, ours[1], _At(self._place(ours[0]), slot, theirs[0]))

    def _decide_deletion(self, slot: Slot, old: int, now_at: Slot, ino: int) -> None:
        is_dir = is_directory(self.base, old)
        place = self._place(now_at)
        if slot[0] in self._kept:
            self._held.add(place)
        elif now_at != slot or differences(self.base, old, self.mine, ino):
            self._conflict(DELETED_BY_THEM, ino, _At(place, slot, None))
        elif is_dir:
            self._removals.append(_Removal(ino, old, place, slot))
            return
        else:
            self._deletions.add(place)
            return
        if is_dir:
            self._kept.add(old)

    def _place(self, slot: Slot) -> Slot:
        """Where a slot is in our tree."""
        directory = self.ours.actual(slot[0])
        assert directory is not None
        return directory, slot[1]

    def _wanted(self, *paths: bytes) -> bool:
        """Whether a change at one of these paths was asked for."""
        wanted = self._wanted_paths
        return not wanted or any(
            path == above or path.startswith(above + b"/") or above == b"." for path in paths for above in wanted
        )

    # What can be where

    def _choose_additions(self) -> Steps[None]:
        added = [_Addition(ino, slot) for slot, ino in self.theirs.added.items()]
        for path, addition in (yield from self._by_path(added)):
            leads = is_directory(self.their, addition.ino) and any(
                wanted.startswith(path + b"/") for wanted in self._wanted_paths
            )
            if leads or self._wanted(path):
                self._additions.append(addition)
            yield
        for home, ino in self.theirs.stand_ins.items():
            mine = self.ours.actual(home)
            if self.base.record(home) is None and mine is not None:
                slot = self.theirs.names(ino)[0]
                yield from self._merge_inode(_At(self._place(slot), None, slot), None, mine, ino)
            yield

    def _by_path(self, additions: list[_Addition]) -> Steps[list[tuple[bytes, _Addition]]]:
        found: list[tuple[bytes, _Addition]] = []
        for addition in additions:
            found.append((self.theirs.path(addition.target), addition))
            yield
        return sorted(found)

    def _find_places(self) -> Steps[None]:
        """Give up the moves that are not possible, and those that depended on them."""
        while True:
            removable = self._removable(self._vacated())
            yield
            self._vacant, self._leaving = self._vacated(), removable
            yield from self._find_new_directories()
            targets = {move.ino: move.target for move in self._moves if is_directory(self.mine, move.ino)}
            hopeless: set[_Move] = set()
            for move in self._moves:
                yield
                if not self._is_free(move.target) or self._is_circular(move, targets):
                    hopeless.add(move)
            if not hopeless:
                break
            self._moves = [move for move in self._moves if move not in hopeless]
            for move in sorted(hopeless):
                self._conflict(RENAMED, move.ino, _At(move.source, move.origin, move.target))
        emptied = self._removable(self._vacated() | self._held)
        for removal in self._removals:
            if removal.ino not in emptied:
                if removal.origin[0] not in self._kept:
                    self._conflict(DELETED_BY_THEM, removal.ino, _At(removal.source, removal.origin, None))
                self._kept.add(removal.home)
        self._removals = [removal for removal in self._removals if removal.ino in removable]
        self._leaving = {removal.ino for removal in self._removals}

    def _vacated(self) -> set[Slot]:
        return self._deletions | {move.source for move in self._moves}

    def _removable(self, vacated: set[Slot]) -> set[int]:
        """The directories that they deleted and in which nothing of ours is left."""
        found: set[int] = set()
        for removal in reversed(self._removals):
            entries = stack.entries(self.view.engine.tree, self.view.top, removal.ino)
            if all(
                (removal.ino, name) in vacated or number >> ENTRY_TYPE_BITS in found for name, number in entries.items()
            ):
                found.add(removal.ino)
        return found

    def _find_new_directories(self) -> Steps[None]:
        self._new = {}
        for _, addition in (yield from self._by_path(self._additions)):
            if is_directory(self.their, addition.ino) and not self._has(addition.ino):
                if self._is_free(addition.target):
                    self._new[addition.ino] = addition.target
            yield

    def _directory(self, home: int) -> int | None:
        """The directory that stands for a home in our tree, once all is done."""
        return home if home in self._new else self.ours.actual(home)

    def _occupant(self, slot: Slot) -> int | None:
        directory = self._directory(slot[0])
        if directory is None or directory in self._new:
            return None
        return self._child((directory, slot[1]))

    def _child(self, place: Slot) -> int | None:
        found = stack.find_entry(self.view.engine.tree, self.view.top, *place)
        return None if found is None else found >> ENTRY_TYPE_BITS

    def _has(self, ino: int) -> bool:
        return stack.find_inode(self.view.engine.tree, self.view.top, ino) is not None

    def _is_free(self, slot: Slot) -> bool:
        directory = self._directory(slot[0])
        if directory is None:
            return False
        occupant = self._occupant(slot)
        return occupant is None or occupant in self._leaving or (directory, slot[1]) in self._vacant

    def _is_circular(self, move: _Move, targets: dict[int, Slot]) -> bool:
        """Whether a directory would come to be inside itself. `targets` has where directories go."""
        if move.ino not in targets:
            return False
        passed: set[int] = set()
        at = self._directory(move.target[0])
        while at is not None and at != ROOT_INO and at not in passed:
            if at == move.ino:
                return True
            passed.add(at)
            slot = targets.get(at) or self._new.get(at)
            at = self._directory(slot[0]) if slot else self.mine.names(at)[0][0]
        return False

    def _is_covered(self, slot: Slot) -> bool:
        """Whether a slot of theirs is inside a directory for which a conflict stands already."""
        at = self.theirs.actual(slot[0])
        assert at is not None
        while at != ROOT_INO:
            if at in self._unplaced:
                return True
            at = self.their.names(at)[0][0]
        return False

    def _check_addition(self, addition: _Addition) -> None:
        """Find out what stands against an addition; it is dropped then."""
        ino, slot = addition
        if self._is_possible(ino, slot):
            return
        self._additions.remove(addition)
        if is_directory(self.their, ino):
            self._unplaced.add(ino)

    def _is_possible(self, ino: int, slot: Slot) -> bool:
        if self._is_covered(slot):
            return False
        directory, occupant = self._directory(slot[0]), self._occupant(slot)
        free = self._is_free(slot)
        if directory is None or self._lost_by_us(ino):
            self._conflict(DELETED_BY_US, None, _At(None, None, slot))
            return False
        if not free and occupant is not None:
            self._meet(ino, occupant, _At((directory, slot[1]), None, slot))
            return False
        if self.base.record(ino) is None and self.mine.record(ino) is not None:
            # Ours has it from an earlier merge of some paths. Another name is one thing, another place another.
            if is_directory(self.their, ino) or not set(self.theirs.names(ino)) & set(self.ours.names(ino)):
                self._conflict(RENAMED, ino, _At(self.mine.names(ino)[0], None, slot))
                return False
        return True

    def _lost_by_us(self, ino: int) -> bool:
        """Whether they gave one more name to a file that we deleted."""
        return self.theirs.is_followed(ino) and all(self.ours.fate(slot) is None for slot in self.base.names(ino))

    def _meet(self, ino: int, occupant: int, at: _At) -> None:
        """They put something where we have something."""
        # What is there may have been changed by this merge.
        present = Reader(self.view.engine, self.view.top)
        if differences(present, occupant, self.their, ino) or (ino != occupant and is_directory(present, occupant)):
            self._conflict(BOTH_ADDED, occupant, at)
        else:
            self._twins[ino] = occupant

    # Names are changed

    def _carry_out(self) -> Steps[None]:
        for directory, name in sorted(self._deletions):
            self.view.unlink(self.view.inode(directory), name)
            yield
        steps: list[_Move | _Addition] = [*self._moves, *self._additions]
        paths = {step.target: self.theirs.path(step.target) for step in steps}
        steps.sort(key=lambda step: (paths[step.target].count(b"/"), paths[step.target]))
        removals = self._removals[::-1]
        while steps or removals:
            left: list[_Move | _Addition] = []
            for step in steps:
                if not self._do(step):
                    left.append(step)
                yield
            remaining = []
            for removal in removals:
                if not self._remove(removal):
                    remaining.append(removal)
                yield
            if len(left) == len(steps) and len(remaining) == len(removals):
                left = self._step_aside(left)
            steps, removals = left, remaining

    def _step_aside(self, steps: list[_Move | _Addition]) -> list[_Move | _Addition]:
        """Names that are each in the other's way: let one of them wait elsewhere."""
        for index, step in enumerate(steps):
            if isinstance(step, _Move) and step.source[1]:
                name = b".merge-%d" % step.ino
                while self._child((ROOT_INO, name)) is not None:
                    name += b"~"
                self.view.rename(self.view.inode(step.source[0]), step.source[1], self.view.root, name)
                waiting = step._replace(source=(ROOT_INO, name))
                return [*steps[:index], *steps[index + 1 :], waiting]
        raise AssertionError(f"a merge is stuck: {steps}")

    def _do(self, step: _Move | _Addition) -> bool:
        """Carry a step out, if that is possible now."""
        directory = self._directory(step.target[0])
        assert directory is not None
        place = (directory, step.target[1])
        if not self._has(directory) or self._child(place) is not None:
            return False
        parent = self.view.inode(directory)
        if isinstance(step, _Addition):
            self._add(parent, place[1], step.ino)
            return True
        if self._is_below(parent, step.ino):
            return False
        self.view.rename(self.view.inode(step.source[0]), step.source[1], parent, place[1])
        return True

    def _is_below(self, directory: Inode, ino: int) -> bool:
        while directory.ino != ROOT_INO:
            if directory.ino == ino:
                return True
            directory = self.view.parent(directory)
        return False

    def _add(self, parent: Inode, name: bytes, ino: int) -> None:
        mine = self._standing_for(ino)
        if mine is not None and self._has(mine):
            self.view.link(self.view.inode(mine), parent, name)
        else:
            # Our inode of this number may be what came in its place: then theirs gets another one.
            inode = self.view.adopt(parent, name, foreign(self.their, ino), renumber=self._has(ino))
            self._adopted[ino] = inode.ino

    def _standing_for(self, ino: int) -> int | None:
        """The inode of ours that an additional name of theirs leads to, if we have that."""
        if ino in self._adopted:
            return self._adopted[ino]
        if self.base.record(ino) is None:
            return self._twins.get(ino, ino)
        # Where we replaced the file under one name, other names go on leading to the old one.
        return ino if self.theirs.is_followed(ino) else None

    def _remove(self, removal: _Removal) -> bool:
        if stack.has_entries(self.view.engine.tree, self.view.top, removal.ino):
            return False
        self.view.rmdir(self.view.inode(removal.source[0]), removal.source[1])
        return True

    # One inode

    def _merge_inode(self, at: _At, old: int | None, ours: int, theirs: int) -> Steps[None]:
        """Bring what they changed of one file or directory into ours."""
        if (old, ours, theirs) in self._merged:
            return
        self._merged.add((old, ours, theirs))
        self._twins[theirs], kinds = yield from self._inodes.merge(at.place, old, ours, theirs)
        for kind in kinds:
            self._conflict(kind, ours, at)

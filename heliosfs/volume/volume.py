"""A volume: all branches and snapshots over one store, and everything one can do with them.

One thread owns a volume and everything in it. Every method runs to its end without giving way, so each is
atomic towards the others; what is slow (`Flush.sync`, `Flush.write`, `sync_blocking`) says that it may run in a
worker thread. A change is in the journal when the method that makes it returns.
"""

import errno
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from heliosfs.base.clock import now
from heliosfs.base.errors import Corruption, HeliosError, Refusal
from heliosfs.base.limits import FLUSH_JOURNAL_BYTES, FLUSH_JOURNAL_BYTES_MIN, FLUSH_RECORDS_MAX, UNCUT_BYTES_MAX
from heliosfs.layers import persistence
from heliosfs.layers.delta import FRESH, MADE
from heliosfs.layers.layer import Layer
from heliosfs.layers.replay import BATCH, ORPHAN, REFS, WRITE, replay_batch, replay_write
from heliosfs.merkle.tree import Tree
from heliosfs.store import database
from heliosfs.store.store import Store
from heliosfs.view.engine import Engine
from heliosfs.view.inode import Caller
from heliosfs.view.view import View
from heliosfs.volume import (
    annotations,
    collection,
    conflicts,
    founding,
    merge,
    operations,
    path_restore,
    refs,
    states,
    statistics,
    undo,
)
from heliosfs.volume.background import Background
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.changes import Change, changes
from heliosfs.volume.collection import FullDiskAllowed, Report
from heliosfs.volume.draft import frozen
from heliosfs.volume.flush import (
    COLLECTED_KEY,
    DROPPED_KEY,
    NEXT_BRANCH_KEY,
    NEXT_INO_KEY,
    NEXT_LAYER_KEY,
    NUMBER_BYTES,
    POSITION_KEY,
    Flush,
)
from heliosfs.volume.naming import check_branch_name, check_snapshot_name, text
from heliosfs.volume.operations import Operation
from heliosfs.volume.pointing import point
from heliosfs.volume.refs import (
    MAIN_BRANCH,
    BranchRecord,
    ConflictRecord,
    SnapshotRecord,
    branch_key,
    snapshot_key,
    timed_key,
)
from heliosfs.volume.registry import Registry
from heliosfs.volume.taking_in import TakingIn
from heliosfs.volume.time_machine import TimeMachine
from heliosfs.volume.transaction import Transaction
from heliosfs.volume.upkeep import Upkeep

NODE_CACHE_BYTES = 64 << 20
"""Decoded nodes of Merkle trees kept in memory."""


class Volume:
    """See the module. Made by `Volume.open`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.engine = Engine(store.journal, store.objects, Tree(store.objects, NODE_CACHE_BYTES))
        self.registry = Registry(self.engine, persistence.load(store.database))
        self.engine.make_room = self._release_reserve
        self.background = Background(self.registry)
        self.taking_in = TakingIn(self.registry, store.read_only)
        self.registry.base_found = self.taking_in.begin
        self.time_machine = TimeMachine(self.registry)
        self.upkeep = Upkeep(self.registry, self.time_machine)
        self.flushes = 0
        self._flush_position = 0
        self._flushing = False
        self._taken_in = False
        """All of the base had been taken in when the flush that is under way began."""
        self._collecting = False
        self.closed = False

    @staticmethod
    def open(store: Store, base: str = "") -> "Volume":
        """The volume in a store: as of the last flush, with the journal since then. A new store gets a main branch,
        which shows the directory `base` if one is given.
        """
        try:
            volume = Volume(store)
            volume._load()
            volume._replay()
        except (LookupError, ValueError, TypeError, AttributeError, AssertionError) as failure:
            # Each of its records checks, but one contradicts another: that can trip anything that takes them in.
            raise Corruption("volume", f"{store.path}: its database and its journal contradict each other") from failure
        if MAIN_BRANCH not in volume.registry.branches:
            if store.read_only:
                raise HeliosError(f"the store {store.path} is empty. Mount it for writing once.")
            founding.found(volume.registry, volume.taking_in, base)
        elif base and (volume.registry.base is None or volume.registry.base.directory != base):
            raise HeliosError(
                f"the store {store.path} has a volume already, and a base can only be what a new one begins with; "
                "`heliosfs import` brings a directory into it"
            )
        if not store.read_only:
            for snapshot in volume.unsettled():
                volume.settle(snapshot)
        return volume

    def _load(self) -> None:
        stored = self.store.database
        log = (operations.decode(value) for _, value in stored.scan(database.OPERATIONS))
        self.registry.load(stored.scan(database.REFS), log)
        self._flush_position = self._setting(POSITION_KEY)
        self.registry.collected_bytes = self._setting(COLLECTED_KEY)
        self.engine.dropped_bytes = self._setting(DROPPED_KEY)
        self.engine.next_ino = max(self.engine.next_ino, self._setting(NEXT_INO_KEY))
        self.registry.next_layer = max(self.registry.next_layer, self._setting(NEXT_LAYER_KEY))
        self.registry.next_branch = max(self.registry.next_branch, self._setting(NEXT_BRANCH_KEY))

    def _setting(self, key: bytes) -> int:
        value = self.store.database.get(database.SETTINGS, key)
        if value is not None and len(value) != NUMBER_BYTES:
            raise Corruption("setting", f"{key.decode()} in the database")
        return int.from_bytes(value or b"", "big")

    def _replay(self) -> None:
        """Put what the journal holds since the last flush into the layers again."""
        layers = self.registry.layers
        for record in self.store.journal.replay(self._flush_position):
            if record.kind == BATCH:
                for ino, kind, _, value in replay_batch(layers, record.header):
                    if kind == FRESH and value == MADE:
                        self.engine.next_ino = max(self.engine.next_ino, ino + 1)
            elif record.kind == WRITE:
                replay_write(layers, record.header, record.position, record.data_length)
            elif record.kind == REFS:
                self.registry.apply(refs.decode_refs(record.header))
            elif record.kind != ORPHAN:
                raise Corruption("journal record", f"unknown kind {record.kind} at {record.position:#x}")

    @property
    def main(self) -> Branch:
        return self.registry.main

    @property
    def views(self) -> dict[int, View]:
        return self.registry.views

    def view_of(self, of: Branch | Snapshot) -> View:
        """The view of a branch or a snapshot; a snapshot's is made when first asked for."""
        return of.view if isinstance(of, Branch) else self.registry.view_of(of)

    def release_view(self, view: View) -> None:
        """Nobody outside holds anything of a view any more: unless it is a branch's, its number is free."""
        self.registry.release_view(view)

    def generation(self, view: View) -> int:
        """Tells apart views that had the same number one after another."""
        return self.registry.generations.get(view.number, 0)

    # Snapshots

    def snapshot(
        self,
        branch: Branch,
        name: bytes,
        caller: Caller,
        *,
        empty: bool = False,
        filling: int = 0,
        message: str = "",
        notes: dict[str, str] | None = None,
    ) -> Snapshot:
        """Name the state that a branch has now. O(1).

        With `empty` the snapshot starts with nothing in it and can be filled until `settle`, by the process
        `filling` (the caller of this method sees to both).
        """
        branch.check_there()
        check_snapshot_name(name, branch.snapshots)
        annotations.check_notes(notes or {}, message)
        transaction = Transaction(self.registry)
        state = self._empty(branch, caller) if empty else transaction.freeze(branch)
        assert bool(filling) == empty
        record = SnapshotRecord(state, now(), caller.uid, 0, filling, message, notes or {})
        transaction.put(snapshot_key(branch.id, name), refs.encode(record))
        transaction.commit("snapshot.create", text(name), caller, branch.id)
        return branch.snapshots[name]

    def _empty(self, branch: Branch, caller: Caller) -> int:
        return founding.make_empty(self.registry, caller, branch.view.root.mode)

    def set_snapshot_file(self, snapshot: Snapshot, ino: int) -> None:
        """A snapshot is one file: that inode of it."""
        self._change_snapshot(snapshot, replace(snapshot.record, file=ino))

    def unsettled(self) -> list[Snapshot]:
        """The snapshots that are being filled."""
        return [snapshot for snapshot in self.registry.snapshots() if snapshot.filling]

    def settle(self, snapshot: Snapshot) -> None:
        """Freeze a snapshot that was being filled, for good."""
        transaction = Transaction(self.registry)
        transaction.freeze_layer(snapshot.state.id)
        record = replace(snapshot.record, filling=0)
        transaction.set(snapshot_key(snapshot.branch.id, snapshot.name), refs.encode(record))
        transaction.commit()
        if snapshot.view is not None:
            snapshot.view.read_only = True

    def _change_snapshot(self, snapshot: Snapshot, record: SnapshotRecord) -> None:
        transaction = Transaction(self.registry)
        transaction.set(snapshot_key(snapshot.branch.id, snapshot.name), refs.encode(record))
        transaction.commit()

    def drop_snapshot(self, branch: Branch, name: bytes, caller: Caller) -> Snapshot:
        """Remove a snapshot's name. Its content stays until the operation log lets it go."""
        snapshot = self._snapshot(branch, name)
        conflicts.check_not_held(snapshot)
        annotations.check_released(snapshot)
        if snapshot.filling:
            self.settle(snapshot)
        transaction = Transaction(self.registry)
        transaction.remove(snapshot_key(branch.id, name))
        transaction.commit("snapshot.delete", text(name), caller, branch.id)
        return snapshot

    def rename_snapshot(self, branch: Branch, old: bytes, new: bytes, caller: Caller) -> None:
        """Give a snapshot another name."""
        snapshot = self._snapshot(branch, old)
        conflicts.check_not_held(snapshot)
        check_snapshot_name(new, branch.snapshots)
        transaction = Transaction(self.registry)
        transaction.remove(snapshot_key(branch.id, old))
        transaction.put(snapshot_key(branch.id, new), refs.encode(snapshot.record))
        transaction.commit("snapshot.rename", f"{text(old)} to {text(new)}", caller, branch.id)

    def drop_timed(self, branch: Branch, name: bytes) -> Snapshot:
        """Remove a state that was kept by itself. It is not in the operation log, so undo does not bring it back."""
        snapshot = branch.timed.get(name)
        if snapshot is None:
            raise Refusal(errno.ENOENT, f"there is no state named {text(name)!r}")
        transaction = Transaction(self.registry)
        transaction.drop(timed_key(branch.id, name))
        transaction.commit()
        return snapshot

    def _snapshot(self, branch: Branch, name: bytes) -> Snapshot:
        snapshot = branch.snapshots.get(name)
        if snapshot is None:
            raise Refusal(errno.ENOENT, f"there is no snapshot named {text(name)!r}")
        return snapshot

    # Branches

    def fork(self, source: Branch | Snapshot, name: bytes, caller: Caller, *, empty: bool = False) -> Branch:
        """A new branch, a child of the source (or of the snapshot's branch), with the source's state. O(1)."""
        parent = source if isinstance(source, Branch) else source.branch
        parent.check_there()
        check_branch_name(name, parent.children)
        transaction = Transaction(self.registry)
        if empty:
            base = 0
        elif isinstance(source, Branch):
            base = transaction.freeze(source)
        else:
            if source.filling:
                raise Refusal(errno.EBUSY, f"the snapshot {text(source.name)!r} is still being filled")
            base = source.state.id
        branch_id = self.registry.next_branch
        top = self._empty(parent, caller) if empty else transaction.new_layer(base)
        number = self.registry.allocate_number()
        record = BranchRecord(name, parent.id, top, base, number, now(), caller.uid)
        transaction.put(branch_key(branch_id), refs.encode(record))
        transaction.commit("branch.create", text(name), caller, parent.id)
        return self.registry.branches[branch_id]

    def drop_branch(self, parent: Branch, name: bytes, caller: Caller) -> Branch:
        """Remove a branch with its snapshots. Undo brings it back until the operation log lets it go."""
        branch = self._child(parent, name)
        if branch.children:
            raise Refusal(errno.ENOTEMPTY, f"branch {text(name)!r} has branches of its own: delete those first")
        annotations.check_all_released(branch)
        for snapshot in list(branch.snapshots.values()):
            if snapshot.filling:
                self.settle(snapshot)
        transaction = Transaction(self.registry)
        transaction.freeze_layer(branch.view.top.id)
        for snapshot_name in list(branch.snapshots):
            transaction.remove(snapshot_key(branch.id, snapshot_name))
        for timed in branch.timed:
            transaction.drop(timed_key(branch.id, timed))
        transaction.remove(branch_key(branch.id))
        transaction.commit("branch.delete", text(name), caller, parent.id)
        return branch

    def rename_branch(self, parent: Branch, old: bytes, new: bytes, caller: Caller) -> None:
        """Give a branch another name."""
        branch = self._child(parent, old)
        check_branch_name(new, parent.children)
        transaction = Transaction(self.registry)
        transaction.put(branch_key(branch.id), refs.encode(replace(branch.record, name=new)))
        transaction.commit("branch.rename", f"{text(old)} to {text(new)}", caller, parent.id)

    def _child(self, parent: Branch, name: bytes) -> Branch:
        branch = parent.children.get(name)
        if branch is None:
            raise Refusal(errno.ENOENT, f"there is no branch named {text(name)!r}")
        return branch

    # Going back

    def state(self, branch: Branch, text: str) -> Layer:
        """The state that a text means, seen from a branch: see `states`. ENOENT when there is none."""
        return states.find(self.registry, branch, text)

    def restore(self, branch: Branch, state: str | Snapshot, caller: Caller) -> set[int]:
        """Let a branch show another state. What it had before can be restored in turn.

        Returns the numbers of the inodes that may differ between the two.
        """
        target = self.state(branch, state) if isinstance(state, str) else state.state
        name = os.fsencode(state) if isinstance(state, str) else state.name
        if target is branch.view.top:
            return set()
        if not target.frozen:
            target = self._frozen_top(target)
        transaction = Transaction(self.registry)
        before, changed = point(self.registry, transaction, branch, target, states.branch_of(branch, state))
        transaction.commit("restore", text(name), caller, branch.id)
        branch.view.switched(before, changed)
        return changed

    def restore_paths(
        self, branch: Branch, state: str, paths: list[bytes], caller: Caller
    ) -> tuple[list[Change], set[int]]:
        """Make what is at or below some paths of a branch as another state has it. See `path_restore`.

        The changes that this was, and the numbers of the inodes that may have changed.
        """
        target = self.state(branch, state)
        if target is branch.view.top:
            return [], set()
        if not target.frozen:
            target = self._frozen_top(target)
        return path_restore.restore_paths(self.registry, branch, target, paths, state, caller)

    def restore_changes(self, branch: Branch, state: str, paths: list[bytes]) -> list[Change]:
        """What a restore would change, of a branch or of some paths of it."""
        target, wanted = self.state(branch, state), path_restore.clean_paths(paths)
        path_restore.check_known(self.registry, wanted, branch.view.top, target)
        return changes(self.engine, branch.view.top, target, wanted)

    def _frozen_top(self, top: Layer) -> Layer:
        """The state of the branch that has this top layer, frozen."""
        found = self.steady(top)
        assert found is not None
        return found

    def steady(self, state: Layer) -> Layer | None:
        """The same state, as one that will not change; None while it is a snapshot that is being filled."""
        if state.frozen or self.store.read_only:
            return state
        for branch in self.registry.branches.values():
            if branch.view.top is state:
                return frozen(self.registry, branch)
        return None

    def undo(
        self, branch: Branch, caller: Caller, number: int | None = None
    ) -> list[tuple[Branch, set[int]]]:
        """Revert one operation of a branch, the newest one unless `number` says which. See `undo`."""
        branch.check_there()
        return undo.undo(self.registry, branch, caller, number)

    # Merging

    def merge(
        self,
        target: Branch,
        source: Branch,
        caller: Caller,
        *,
        strategy: str | None = None,
        paths: Iterable[bytes] = (),
        message: str = "",
        dry_run: bool = False,
    ) -> merge.Report:
        """Merge what one branch changed into another one. See `merge`."""
        return merge.merge(
            self.registry, target, source, caller,
            strategy=strategy, paths=paths, message=message, dry_run=dry_run,
        )  # fmt: skip

    def conflicts(self, branch: Branch) -> list[ConflictRecord]:
        """What merges into a branch left open."""
        snapshot = conflicts.open_merge(branch)
        return [] if snapshot is None else snapshot.record.conflicts

    def resolve(self, branch: Branch, path: bytes, how: str, caller: Caller) -> set[int]:
        """Settle the conflicts at a path. Returns the numbers of the inodes that may have changed."""
        return conflicts.resolve(self.registry, branch, path, how, caller)

    def log(self, branch: Branch | None = None) -> list[Operation]:
        """The operations of a branch, or of all, oldest first."""
        return [each for each in self.registry.log if branch is None or each.branch == branch.id]

    def collect(self, *, dry_run: bool = False, report: Report | None = None) -> Generator[None, None, Report]:
        """Free what nothing refers to, in steps; a flush has to follow. See `collection`, and `Upkeep.let_go`.

        `report` shows how far it is. EBUSY when a collection is going on already.
        """
        if self._collecting:
            raise Refusal(errno.EBUSY, "a collection is going on already")
        self._collecting = True
        report = report or Report()
        try:
            tight = self.store.is_short_of_space()
            yield from self._seal_all(report)
            self.background.abandon_seal()
            self.taking_in.pause()
            yield from collection.collect(self.registry, report, dry_run=dry_run, tight=tight)
        finally:
            self._collecting = False
            self.taking_in.go_on()
        if not dry_run:
            self.upkeep.collected()
        return report

    def _seal_all(self, report: Report) -> Generator[None, None, None]:
        """What was deleted since a branch's last layer was sealed is still in the tree below: bring that up to date.

        A full disk ends this early; what can be freed without it is freed, and then there may be room for more.
        """
        for attempt in range(2):
            with FullDiskAllowed():
                pending = set(self.background.freeze_all())
                while pending & self.registry.unsealed.keys() and self.background.seal_step():
                    yield
                return
            if attempt or not self.engine.make_room():
                report.disk_full = True
                return

    def stored_bytes(self) -> int:
        """What content and journal take on the disk."""
        return self.engine.objects.packed_bytes() + self.engine.journal.size()

    def collect_blocking(
        self, *, dry_run: bool = False, keep_undo_seconds: float | None = None, step: Callable[[Report], None]
    ) -> Report:
        """A whole collection in this thread, flush and all. `step` is told between two steps."""
        rounds = collection.Rounds(self.stored_bytes)
        if not dry_run:
            self.upkeep.let_go(self.store.is_short_of_space(), keep_undo_seconds)
        # What is in no flush yet is not looked at.
        with FullDiskAllowed():
            self._flush_with_reserve()
        while rounds.go_on():
            for _ in self.collect(dry_run=dry_run, report=rounds.report):
                step(rounds.report)
            if not dry_run:
                rounds.report.phase = collection.FLUSHING
                step(rounds.report)
                self._flush_with_reserve()
                while self.engine.objects.condemned:
                    self._flush_with_reserve()
        return rounds.report

    def _flush_with_reserve(self) -> None:
        """On a full disk the first attempt gives the reserve away, and the second one has it."""
        with FullDiskAllowed():
            self.flush()
            return
        self.flush()

    # Background work and durability

    def dirty(self) -> bool:
        """Whether `step` has anything to do."""
        return self.background.dirty() or self.taking_in.dirty()

    def step(self) -> None:
        """Do one bounded piece of background work."""
        if self.background.dirty():
            self.background.step()
        else:
            self.taking_in.step()

    def pressure(self) -> float:
        """How large the backlog is, as a share of what it may be before requests have to wait for it."""
        return self.background.pressure()

    def flush_due(self, idle: bool = False) -> bool:
        """Whether it is time for a flush. When `idle`, less is reason enough."""
        if self._flushing or self.store.read_only:
            return False
        if self.taking_in.complete():
            return True
        journal = self.engine.journal.size_since(self._flush_position)
        if journal >= FLUSH_JOURNAL_BYTES:
            return True
        if idle and journal and self.store.is_short_of_space():
            return True
        if journal < FLUSH_JOURNAL_BYTES_MIN:
            return False
        if idle or self.engine.journal.size() >= UNCUT_BYTES_MAX:
            return True  # as it stands, requests wait for the cutter, though it may be done with most of that
        return self.registry.unflushed_records() >= FLUSH_RECORDS_MAX

    def begin_flush(self) -> Flush:
        """The first phase of a flush. See `Flush`; `end_flush` has to follow, unless this raises."""
        assert not self._flushing
        flush = Flush(self.store, self.registry)
        self._flushing = True
        self._taken_in = self.taking_in.complete()
        try:
            flush.begin()
        except BaseException:
            self.end_flush(flush, failed=True)
            raise
        return flush

    def end_flush(self, flush: Flush, *, failed: bool = False) -> None:
        """The last phase of a flush."""
        self._flushing = False
        if failed:
            flush.fail()
            self._release_reserve()
        else:
            flush.finish()
            self._flush_position = flush.position
            self.flushes += 1
            if self._taken_in:
                self.taking_in.finish()
            if self.store.reserve_used:
                self.store.restore_reserve()

    def _release_reserve(self) -> bool:
        """On a full disk: let work that frees space have the reserve. False when it was given away already."""
        if self.store.reserve_used:
            return False
        self.store.release_reserve()
        return True

    def flush(self) -> None:
        """All phases of a flush in this thread."""
        flush = self.begin_flush()
        try:
            flush.sync()
            flush.index()
            flush.write()
        except BaseException:
            self.end_flush(flush, failed=True)
            raise
        self.end_flush(flush)

    def sync_blocking(self) -> None:
        """Any thread. Everything that was acknowledged before the call survives a power cut after it."""
        self.store.journal.sync()

    def close(self) -> None:
        """Cut what is uncut, flush, and close the store. Everything is durable afterwards."""
        try:
            if not self.store.read_only:
                self._bring_to_disk()
        finally:
            self.store.close()
            self.closed = True

    def _bring_to_disk(self) -> None:
        """What is left undone, on a full disk or because of damage, the journal keeps."""
        self.engine.orphans.clear()
        with FullDiskAllowed(), suppress(Corruption):
            self.background.finish()
        self.registry.sweep_due = True
        self.store.journal.sync()
        with FullDiskAllowed():
            self._flush_with_reserve()

    def statistics(self) -> dict[str, Any]:
        """Figures for people and programs, by name. Sizes in bytes."""
        return statistics.of(self)

"""Everything a volume can do, in random order, against a plain model: with crashes and small limits.

A crash is a copy of the store's directory taken while the volume is open: what a killed process leaves. The run is
the same every time; HELIOSFS_TEST_EXAMPLES makes it longer and random.
"""

import os
import random
import shutil
import tempfile
from pathlib import Path
from stat import S_IFDIR, S_IFLNK, S_IFREG
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from heliosfs.base.errors import Refusal
from heliosfs.base.keys import ROOT_INO
from heliosfs.layers import span, stack
from heliosfs.store import journal
from heliosfs.store.store import Store
from heliosfs.view import cutter
from heliosfs.view.inode import Caller
from heliosfs.volume import background, volume
from heliosfs.volume.branch import Branch
from tests.store.support import copy_live
from tests.volume.model import ModelFile, ModelTree, compare

EXAMPLES = int(os.environ.get("HELIOSFS_TEST_EXAMPLES", "0"))
SHRINK = bool(os.environ.get("HELIOSFS_TEST_SHRINK"))
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
CALLER = Caller(1000, 1000, 1, b"test")
NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff\n", b"long" * 60])
PICK = st.integers(0, 1 << 30)

SMALL = {"span": 2, "records": 30, "segment": 1 << 15, "step": 1 << 13, "scan": 0, "inline": 64, "flush": 0}
LARGE = {
    "span": 32, "records": 50_000, "segment": 64 << 20, "step": 512 << 10, "scan": 1 << 20, "inline": 512,
    "flush": 2 << 20,
}  # fmt: skip


def content(seed: int, length: int) -> bytes:
    """Bytes that compress a little and repeat across files."""
    generator = random.Random(seed % 7)
    return b"".join(generator.randbytes(97) + bytes(31) for _ in range(length // 128 + 1))[:length]


class VolumeMachine(RuleBasedStateMachine):
    limits = SMALL

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="heliosfs-machine-", dir=MEMORY))
        self.patches = [
            mock.patch.object(background, "LAYER_RECORDS_MAX", self.limits["records"]),
            mock.patch.object(background, "SCAN_BYTES", self.limits["scan"]),
            mock.patch.object(journal.Journal.__init__, "__kwdefaults__", self._journal_defaults()),
            mock.patch.object(span, "SPAN_LAYERS", self.limits["span"]),
            mock.patch.object(stack, "SPAN_MASK", self.limits["span"] - 1),
            mock.patch.object(cutter, "STEP_BYTES", self.limits["step"]),
            mock.patch.object(cutter, "INLINE_BYTES_MAX", self.limits["inline"]),
            mock.patch.object(volume, "FLUSH_JOURNAL_BYTES_MIN", self.limits["flush"]),
        ]
        for patch in self.patches:
            patch.start()
        self.generation = 0
        self.trees: dict[int, ModelTree] = {1: ModelTree()}
        self.snapshots: dict[tuple[int, bytes], ModelTree] = {}
        self.undoable: dict[int, list[ModelTree]] = {}
        self.volume = self._open()
        self.trees[1].files[ROOT_INO].mode = self.volume.main.view.root.mode

    def _journal_defaults(self) -> dict[str, object]:
        return {**(journal.Journal.__init__.__kwdefaults__ or {}), "segment_bytes": self.limits["segment"]}

    def _open(self) -> volume.Volume:
        return volume.Volume.open(Store.open(self.directory / str(self.generation)))

    def _branch(self, pick: int) -> Branch:
        branches = self.volume.registry.branches
        return branches[sorted(branches)[pick % len(branches)]]

    def _place(self, pick: int, where: int) -> tuple[Branch, ModelTree, int]:
        branch = self._branch(pick)
        tree = self.trees[branch.id]
        directories = tree.directories()
        return branch, tree, directories[where % len(directories)]

    def _name(self, tree: ModelTree, pick: int) -> tuple[int, bytes]:
        names = tree.names()
        return names[pick % len(names)]

    def _file(self, pick: int, which: int) -> tuple[Branch, ModelTree, int] | None:
        branch = self._branch(pick)
        tree = self.trees[branch.id]
        files = tree.regular()
        return (branch, tree, files[which % len(files)]) if files else None

    @rule(pick=PICK, where=PICK, name=NAMES, kind=st.sampled_from([S_IFREG, S_IFREG, S_IFDIR, S_IFLNK]))
    def make(self, pick: int, where: int, name: bytes, kind: int) -> None:
        branch, tree, directory = self._place(pick, where)
        view = branch.view
        parent = view.inode(directory)
        if name in tree.files[directory].entries:
            with pytest.raises(Refusal):
                view.make(parent, name, kind | 0o644, CALLER)
            return
        inode = view.make(parent, name, kind | 0o644, CALLER, target=b"there" if kind == S_IFLNK else b"")
        file = ModelFile(inode.mode)
        file.target = b"there" if kind == S_IFLNK else b""
        tree.files[inode.ino] = file
        tree.files[directory].entries[name] = inode.ino

    @rule(
        pick=PICK, which=PICK, offset=st.integers(0, 70_000), seed=PICK,
        length=st.sampled_from([1, 50, 700, 5000, 40_000]), end=st.booleans(),
    )  # fmt: skip
    def write(self, pick: int, which: int, offset: int, seed: int, length: int, end: bool) -> None:
        place = self._file(pick, which)
        if place is None:
            return
        branch, tree, ino = place
        file = tree.files[ino]
        offset = len(file.data) if end else offset
        data = content(seed, length)
        inode = branch.view.inode(ino)
        assert branch.view.write(inode, offset, data) == length
        file.data = file.data[:offset].ljust(offset, b"\0") + data + file.data[offset + length :]
        if seed % 3 == 0:
            branch.view.closed(inode)

    @rule(pick=PICK, which=PICK, size=st.sampled_from([0, 1, 600, 4096, 30_000, 90_000]))
    def truncate(self, pick: int, which: int, size: int) -> None:
        place = self._file(pick, which)
        if place is None:
            return
        branch, tree, ino = place
        branch.view.set_attributes(branch.view.inode(ino), size=size)
        file = tree.files[ino]
        file.data = file.data[:size].ljust(size, b"\0")

    @rule(pick=PICK, which=PICK)
    def remove(self, pick: int, which: int) -> None:
        branch = self._branch(pick)
        tree = self.trees[branch.id]
        if not tree.names():
            return
        directory, name = self._name(tree, which)
        ino = tree.files[directory].entries[name]
        parent = branch.view.inode(directory)
        if tree.files[ino].mode & S_IFDIR and tree.files[ino].mode >> 12 == S_IFDIR >> 12:
            if tree.files[ino].entries:
                with pytest.raises(Refusal):
                    branch.view.rmdir(parent, name)
                return
            branch.view.rmdir(parent, name)
        else:
            branch.view.unlink(parent, name)
        del tree.files[directory].entries[name]
        tree.drop_if_unlinked(ino)

    @rule(pick=PICK, which=PICK, where=PICK, name=NAMES)
    def link(self, pick: int, which: int, where: int, name: bytes) -> None:
        place = self._file(pick, which)
        if place is None:
            return
        branch, tree, ino = place
        directory = self._place(pick, where)[2]
        if name in tree.files[directory].entries:
            return
        branch.view.link(branch.view.inode(ino), branch.view.inode(directory), name)
        tree.files[directory].entries[name] = ino

    @rule(pick=PICK, which=PICK, where=PICK, name=NAMES, flags=st.sampled_from([0, 0, 1, 2]))
    def rename(self, pick: int, which: int, where: int, name: bytes, flags: int) -> None:
        branch = self._branch(pick)
        tree, view = self.trees[branch.id], branch.view
        if not tree.names():
            return
        directory, old = self._name(tree, which)
        new_directory = self._place(pick, where)[2]
        ino, target = tree.files[directory].entries[old], tree.files[new_directory].entries.get(name)
        try:
            view.rename(view.inode(directory), old, view.inode(new_directory), name, flags)
        except Refusal:
            assert self._may_refuse(tree, ino, directory, new_directory, target, flags)
            return
        if target == ino:
            return
        if flags == 2:
            assert target is not None
            tree.files[directory].entries[old] = target
            tree.files[new_directory].entries[name] = ino
            return
        assert flags == 0 or target is None
        del tree.files[directory].entries[old]
        tree.files[new_directory].entries[name] = ino
        if target is not None:
            tree.drop_if_unlinked(target)

    @staticmethod
    def _may_refuse(
        tree: ModelTree, ino: int, directory: int, new_directory: int, target: int | None, flags: int
    ) -> bool:
        if flags == 1 and target is not None:
            return True
        if flags == 2 and (target is None or tree.is_below(directory, target)):
            return True
        if tree.is_below(new_directory, ino):
            return True
        if target is None:
            return False
        types = tree.files[ino].mode >> 12, tree.files[target].mode >> 12
        return (S_IFDIR >> 12 in types and types[0] != types[1]) or bool(tree.files[target].entries)

    @rule(pick=PICK, which=PICK, name=st.sampled_from([b"user.a", b"user.b"]), value=st.binary(max_size=20))
    def set_xattr(self, pick: int, which: int, name: bytes, value: bytes) -> None:
        place = self._file(pick, which)
        if place is not None:
            branch, tree, ino = place
            branch.view.set_xattr(branch.view.inode(ino), name, value)
            tree.files[ino].xattrs[name] = value

    @rule(pick=PICK, which=PICK)
    def remove_xattr(self, pick: int, which: int) -> None:
        place = self._file(pick, which)
        if place is not None:
            branch, tree, ino = place
            for name in list(tree.files[ino].xattrs)[:1]:
                branch.view.remove_xattr(branch.view.inode(ino), name)
                del tree.files[ino].xattrs[name]

    @rule(pick=PICK, which=PICK, mode=st.integers(0, 0o7777))
    def change_mode(self, pick: int, which: int, mode: int) -> None:
        branch = self._branch(pick)
        tree = self.trees[branch.id]
        ino = sorted(tree.files)[which % len(tree.files)]
        branch.view.set_attributes(branch.view.inode(ino), mode=mode)
        tree.files[ino].mode = tree.files[ino].mode & ~0o7777 | mode

    @rule(pick=PICK, name=NAMES)
    def snapshot(self, pick: int, name: bytes) -> None:
        branch = self._branch(pick)
        if name in branch.snapshots:
            with pytest.raises(Refusal):
                self.volume.snapshot(branch, name, CALLER)
            return
        self.volume.snapshot(branch, name, CALLER)
        self.snapshots[branch.id, name] = self.trees[branch.id].copy()

    @rule(pick=PICK, which=PICK, new=NAMES)
    def rename_snapshot(self, pick: int, which: int, new: bytes) -> None:
        branch = self._branch(pick)
        if branch.snapshots and new not in branch.snapshots:
            old = sorted(branch.snapshots)[which % len(branch.snapshots)]
            self.volume.rename_snapshot(branch, old, new, CALLER)
            self.snapshots[branch.id, new] = self.snapshots.pop((branch.id, old))

    @rule(pick=PICK, which=PICK, undo=st.booleans())
    def drop_snapshot(self, pick: int, which: int, undo: bool) -> None:
        branch = self._branch(pick)
        if branch.snapshots:
            name = sorted(branch.snapshots)[which % len(branch.snapshots)]
            self.volume.drop_snapshot(branch, name, CALLER)
            if undo:
                self.volume.undo(branch, CALLER)
            else:
                del self.snapshots[branch.id, name]

    @rule(pick=PICK, name=NAMES, of=PICK, from_snapshot=st.booleans())
    def fork(self, pick: int, name: bytes, of: int, from_snapshot: bool) -> None:
        branch = self._branch(pick)
        if name in branch.children or len(self.trees) > 4:
            return
        if from_snapshot and branch.snapshots:
            chosen = sorted(branch.snapshots)[of % len(branch.snapshots)]
            child = self.volume.fork(branch.snapshots[chosen], name, CALLER)
            self.trees[child.id] = self.snapshots[branch.id, chosen].copy()
        else:
            child = self.volume.fork(branch, name, CALLER)
            self.trees[child.id] = self.trees[branch.id].copy()

    @rule(pick=PICK, undo=st.booleans())
    def drop_branch(self, pick: int, undo: bool) -> None:
        branch = self._branch(pick)
        if branch.parent is None:
            return
        if branch.children:
            with pytest.raises(Refusal):
                self.volume.drop_branch(branch.parent, branch.name, CALLER)
            return
        self.volume.drop_branch(branch.parent, branch.name, CALLER)
        if undo:
            self.volume.undo(branch.parent, CALLER)
            return
        del self.trees[branch.id]
        for key in [key for key in self.snapshots if key[0] == branch.id]:
            del self.snapshots[key]

    @rule(pick=PICK, which=PICK, again=st.integers(0, 2))
    def restore(self, pick: int, which: int, again: int) -> None:
        """Restore a snapshot; then undo, and undo the undo."""
        branch = self._branch(pick)
        if not branch.snapshots:
            return
        name = sorted(branch.snapshots)[which % len(branch.snapshots)]
        states = [self.trees[branch.id], self.snapshots[branch.id, name].copy()]
        self.volume.restore(branch, os.fsdecode(name), CALLER)
        for turn in range(again):
            compare(branch.view, states[1 - turn % 2])
            self.volume.undo(branch, CALLER)
        self.trees[branch.id] = states[1 - again % 2]

    @rule(steps=st.sampled_from([1, 3, 200]))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            if not self.volume.dirty():
                break
            self.volume.step()

    @rule(during=st.booleans(), work=st.integers(0, 30))
    def flush(self, during: bool, work: int) -> None:
        """A flush, with background work between its phases as in the daemon."""
        flush = self.volume.begin_flush()
        self.work(work)
        flush.sync()
        self.work(work if during else 0)
        flush.index()
        self.work(work)
        flush.write()
        self.volume.end_flush(flush)

    @rule()
    def fail_flush(self) -> None:
        """A flush that a full disk ends: the next one has to make up for it."""
        self.volume.end_flush(self.volume.begin_flush(), failed=True)

    @rule(work=st.integers(0, 30), phase=st.integers(0, 4))
    def crash(self, work: int, phase: int) -> None:
        """Die in the middle of a flush, or outside of one."""
        if phase:
            flush = self.volume.begin_flush()
            self.work(work)
            for act in (flush.sync, flush.index, flush.write)[: phase - 1]:
                act()
        self._go_on_in_a_copy(lambda: None)

    @rule()
    def close(self) -> None:
        self._go_on_in_a_copy(self.volume.close)

    def _go_on_in_a_copy(self, before) -> None:  # type: ignore[no-untyped-def]
        old = self.volume
        before()
        self.generation += 1
        there = self.directory / str(self.generation)
        copy_live(old.store.path, there)
        if before != old.close:
            old.store.close()
        shutil.rmtree(old.store.path)
        self.volume = self._open()
        self.check_all()

    @precondition(lambda self: random.Random(self.generation).random() < 0.2)
    @invariant()
    def check_all(self) -> None:
        branches = self.volume.registry.branches
        assert branches.keys() == self.trees.keys()
        for branch_id, tree in self.trees.items():
            compare(branches[branch_id].view, tree)
        found = {(snapshot.branch.id, snapshot.name) for snapshot in self.volume.registry.snapshots()}
        assert found == self.snapshots.keys()
        for (branch_id, name), tree in self.snapshots.items():
            compare(self.volume.view_of(branches[branch_id].snapshots[name]), tree)

    @invariant()
    def layers_are_consistent(self) -> None:
        for layer in self.volume.registry.layers.values():
            written = {
                ino for ino, delta in layer.deltas.items() if delta.extents is not None and delta.extents.written
            }
            assert layer.uncut == written
            for delta in layer.deltas.values():
                if delta.extents is not None:
                    delta.extents.check()

    def teardown(self) -> None:
        try:
            self._go_on_in_a_copy(self.volume.close)
            self.volume.close()
        finally:
            for patch in self.patches:
                patch.stop()
            shutil.rmtree(self.directory, ignore_errors=True)


class LargeVolumeMachine(VolumeMachine):
    limits = LARGE




@pytest.mark.parametrize("machine", [VolumeMachine, LargeVolumeMachine])
def test_volume_against_model(machine: type[VolumeMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or 25,
            stateful_step_count=60,
            deadline=None,
            derandomize=not EXAMPLES,
            database=None,
            phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )

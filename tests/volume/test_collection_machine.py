"""Whatever is reachable stays readable and what is not goes: collections in random order with everything else.

The volume machine again, with a collection that advances step by step between all other operations and between the
phases of flushes, is stopped, is caught by crashes and power cuts at any point; with a log that soon forgets, and
with unlinked files that somebody has open.
"""

import shutil
from collections.abc import Generator
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from heliosfs.base.clock import now
from heliosfs.base.keys import EXTENT, INO_BYTES, OFFSET_BYTES
from heliosfs.base.records import CHUNK, decode_extent
from heliosfs.store import packs
from heliosfs.view.inode import Inode
from heliosfs.volume import operations
from heliosfs.volume.volume import Volume
from tests.store.support import copy_live, journal_sizes
from tests.volume.model import ModelTree
from tests.volume.test_volume_machine import EXAMPLES, PICK, SHRINK, VolumeMachine

STEPS = st.sampled_from([1, 2, 5, 100])
PACK_BYTES = 1 << 16


def reachable(volume: Volume) -> set[bytes]:
    """Every object that a state with a name needs, found without the collector."""
    tree, found = volume.engine.tree, set[bytes]()
    pending = [branch.view.top for branch in volume.registry.branches.values()]
    pending += [snapshot.state for snapshot in volume.registry.snapshots()]
    pending += [timed.state for branch in volume.registry.branches.values() for timed in branch.timed.values()]
    bases = [branch.record.base for branch in volume.registry.branches.values()]
    pending += [volume.registry.layers[base] for base in bases if base]
    pending += [view.top for view in volume.views.values()]
    while pending:
        layer = pending.pop()
        if layer.below is not None:
            pending.append(layer.below)
        for delta in layer.deltas.values():
            extents = delta.extents.extents() if delta.extents is not None else []
            found.update(source for _, _, kind, source, _ in extents if kind == CHUNK and isinstance(source, bytes))
        for digest, node in tree.visit(layer.root or b""):
            found.add(digest)
            for key, value in zip(node.keys, node.values, strict=True) if node.level == 0 else ():
                if key[INO_BYTES] == EXTENT:
                    _, _, kind, source, _ = decode_extent(int.from_bytes(key[-OFFSET_BYTES:], "big"), value)
                    if kind == CHUNK and isinstance(source, bytes):
                        found.add(source)
    return found


class CollectionMachine(VolumeMachine):
    def __init__(self) -> None:
        self.collecting: Generator[None, None, object] | None = None
        self.held: list[tuple[Inode, bytes]] = []
        small = {"pack_bytes": PACK_BYTES, "read_only": False}
        self.more_patches = [
            mock.patch.object(operations, "RETAINED", 6),
            mock.patch.object(packs.Packs.__init__, "__kwdefaults__", small),
        ]
        for patch in self.more_patches:
            patch.start()
        super().__init__()
        self.patches += self.more_patches

    @rule(steps=STEPS)
    def collect(self, steps: int) -> None:
        if self.collecting is None:
            self.collecting = self.volume.collect()
        for _ in range(steps):
            try:
                next(self.collecting)
            except StopIteration:
                self.collecting = None
                return

    @rule()
    def stop(self) -> None:
        if self.collecting is not None:
            self.collecting.close()
            self.collecting = None

    def work(self, steps: int) -> None:  # type: ignore[override]
        super().work(steps)
        if steps % 2:
            self.collect(steps)

    @rule(steps=st.sampled_from([1, 3, 200]))
    def work_on(self, steps: int) -> None:
        super().work(steps)

    @rule()
    def forget_undo(self) -> None:
        self.volume.registry.let_go_before(now())

    @rule(pick=PICK, which=PICK, hold=st.booleans())
    def unlink_and_hold(self, pick: int, which: int, hold: bool) -> None:
        """Remove every name of a file, which somebody may have open."""
        place = self._file(pick, which)
        if place is None:
            return
        branch, tree, ino = place
        view, data = branch.view, tree.files[ino].data
        inode = view.inode(ino)
        inode.opens += hold
        for directory, name in tree.names():
            if tree.files[directory].entries[name] == ino:
                view.unlink(view.inode(directory), name)
                del tree.files[directory].entries[name]
        tree.drop_if_unlinked(ino)
        if hold:
            self.held.append((inode, data))

    @rule(which=PICK)
    def let_go(self, which: int) -> None:
        if self.held:
            inode, _ = self.held.pop(which % len(self.held))
            inode.opens = 0
            inode.view.forget(inode)

    @invariant()
    def held_files_are_readable(self) -> None:
        for inode, data in self.held:
            assert bytes(inode.view.read(inode, 0, len(data) + 1)) == data

    @rule(pick=PICK, which=PICK, steps=STEPS, work=st.integers(0, 30))
    def cut_power(self, pick: int, which: int, steps: int, work: int) -> None:
        """The power goes after a flush that other work ran beside, with all that was not synced."""
        flush = self.volume.begin_flush()
        before: tuple[dict[int, ModelTree], dict[tuple[int, bytes], ModelTree]] = (
            {branch: tree.copy() for branch, tree in self.trees.items()},
            {key: tree.copy() for key, tree in self.snapshots.items()},
        )
        flush.sync()
        sizes = journal_sizes(self.volume.store.journal)
        self.unlink_and_hold(pick, which, False)
        self.collect(steps)
        super().work(work)
        flush.index()
        flush.write()
        self.trees, self.snapshots = before
        self._go_on_in_a_copy(lambda: None, lambda there: cut_journal(there / "journal", sizes))

    def _go_on_in_a_copy(self, before, change=lambda there: None) -> None:  # type: ignore[no-untyped-def]
        self.stop()
        self.held.clear()
        if before != self.volume.close:
            copy = self.directory / "cut"
            copy_live(self.volume.store.path, copy)
            self.volume.store.close()
            shutil.rmtree(self.volume.store.path)
            self.generation += 1
            copy.rename(self.directory / str(self.generation))
            change(self.directory / str(self.generation))
            self.volume = self._open()
            self.check_all()
        else:
            super()._go_on_in_a_copy(before)

    def teardown(self) -> None:
        """At the end nothing is left but what can be reached, and the packs are mostly that."""
        try:
            self.stop()
            for inode, _ in self.held:
                inode.opens = 0
                inode.view.forget(inode)
            self.held.clear()
            for view in [view for view in self.volume.views.values() if view.read_only]:
                self.volume.release_view(view)
            super().work(10_000)
            self.volume.flush()
            self.volume.collect_blocking(keep_undo_seconds=0, step=lambda report: None)
            self.check_all()
            for view in [view for view in self.volume.views.values() if view.read_only]:
                self.volume.release_view(view)
            objects = self.volume.engine.objects
            there = {digest for digest, _, _ in objects.iterate()}
            assert there == reachable(self.volume)
            for digest in there:
                objects.verify(digest)
        finally:
            super().teardown()


def cut_journal(journal: Path, sizes: dict[str, int]) -> None:
    for path in journal.iterdir():
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            with path.open("r+b") as file:
                file.truncate(sizes[path.name])


def test_collections_against_model() -> None:
    run_state_machine_as_test(
        CollectionMachine,
        settings=settings(
            max_examples=EXAMPLES or 10,
            stateful_step_count=60,
            deadline=None,
            derandomize=not EXAMPLES,
            database=None,
            phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )

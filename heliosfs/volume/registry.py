"""All refs, layers and views of a volume in memory, and how a REFS record changes them.

The same code runs when an operation happens and when the journal is replayed, so both lead to the same state.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from heliosfs.base.errors import Corruption
from heliosfs.base.keys import VIEW_BITS
from heliosfs.base.limits import FLUSH_RECORDS_OF_OPERATION
from heliosfs.layers.layer import Layer
from heliosfs.view.engine import Engine
from heliosfs.view.view import View
from heliosfs.volume import operations
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.operations import Operation
from heliosfs.volume.refs import (
    BASE_KEY,
    MAIN_BRANCH,
    BaseRecord,
    RefsRecord,
    decode_base,
    decode_branch,
    decode_snapshot,
    setting_name,
    split_key,
    split_timed,
)

VIEWS_MAX = 1 << VIEW_BITS


class Registry:
    """What a volume consists of."""

    def __init__(self, engine: Engine, layers: dict[int, Layer]) -> None:
        self.engine = engine
        self.layers = layers
        self.next_layer = max(layers, default=0) + 1
        self.refs: dict[bytes, bytes] = {}
        self.changed_refs: set[bytes] = set()
        self.branches: dict[int, Branch] = {}
        self.next_branch = MAIN_BRANCH
        self.views: dict[int, View] = {}
        self.generations: dict[int, int] = {}
        """How often a view number was given back; the number with its generation is unique."""
        self._free_numbers: deque[int] = deque()
        self._next_number = 0
        self.log: deque[Operation] = deque()
        self.new_operations: list[Operation] = []
        self.forgotten_operations: list[int] = []
        """Numbers of operations that are gone here and still in the database."""
        self.horizon = 0
        """The states that operations before this time left are kept no longer. Only ever grows."""
        self.let_go = 0
        """How many states that were kept for undo, or by themselves, are not any more: since the volume was opened."""
        self.collected_bytes = 0
        """What the objects took after the last collection."""
        self.unsealed: dict[int, Layer] = {}
        """Frozen layers that have no root yet, oldest first."""
        self.swept: set[int] = set()
        """Layers that are gone here and still in the database."""
        self.base: BaseRecord | None = None
        self.base_found: Callable[[], None] = lambda: None
        """Called when it is known."""
        self.settings: dict[str, str] = {}
        """What was set, by name."""
        self.sweep_due = False
        """Some layer may have become unreachable."""
        self._held: list[tuple[Layer, ...]] = []
        self.drafts: list[View] = []
        """Views of what is to become the state of a branch. Their layers are held."""

    @property
    def main(self) -> Branch:
        return self.branches[MAIN_BRANCH]

    def snapshots(self) -> Iterator[Snapshot]:
        """All snapshots of all branches."""
        for branch in self.branches.values():
            yield from branch.snapshots.values()

    def last_hash(self) -> bytes:
        """What the next operation follows."""
        return self.log[-1].hash if self.log else operations.FIRST_HASH

    def next_operation(self) -> int:
        """The number of the next operation."""
        return self.log[-1].number + 1 if self.log else 1

    def allocate_layer(self) -> int:
        """A layer id that was never used."""
        layer_id = self.next_layer
        self.next_layer += 1
        return layer_id

    def load(self, refs: Iterator[tuple[bytes, bytes]], log: Iterator[Operation]) -> None:
        """Take in what the database holds."""
        pairs = list(refs)
        for ref, value in sorted(pairs):
            self._put(ref, value, {})
        self.changed_refs.clear()
        for operation in log:
            self._note(operation)
        self.unsealed = {
            layer_id: layer
            for layer_id, layer in sorted(self.layers.items())
            if layer.frozen and layer.root is None
        }

    def apply(self, record: RefsRecord, operation: Operation | None = None) -> None:
        """Carry out a REFS record. `operation` is the one in it, where that need not be decoded again."""
        for layer_id in record.frozen:
            self._freeze(self._layer(layer_id))
        for layer_id, below_id in record.layers:
            below = self._layer(below_id) if below_id else None
            if below is not None and not below.frozen:
                self._freeze(below)
            self.layers[layer_id] = Layer(layer_id, below)
            self.next_layer = max(self.next_layer, layer_id + 1)
        moved: dict[bytes, Snapshot] = {}
        for ref, value in record.refs:
            if value is None:
                self._remove(ref, moved)
        # Sorted, so that a branch comes before its snapshots and a parent before its children.
        for ref, value in sorted((ref, value) for ref, value in record.refs if value is not None):
            self._put(ref, value, moved)
        if record.operation is not None:
            operation = operation or operations.decode(record.operation)
            self._note(operation)
            self.new_operations.append(operation)

    def _note(self, operation: Operation) -> None:
        """Enter an operation in the log, which has a longest length."""
        self.log.append(operation)
        if len(self.log) > operations.RETAINED:
            oldest = self.log.popleft()
            self.forgotten_operations.append(oldest.number)
            self.sweep_due = True
            self.let_go += operations.keeps_states(oldest) and oldest.time >= self.horizon

    def let_go_before(self, moment: int) -> None:
        """Keep no longer what only operations before this time refer to; it goes with the next sweep."""
        if moment <= self.horizon:
            return
        passed = sum(self.horizon <= each.time < moment and operations.keeps_states(each) for each in self.log)
        self.horizon = moment
        self.let_go += passed
        self.sweep_due = self.sweep_due or passed > 0

    def _layer(self, layer_id: int) -> Layer:
        layer = self.layers.get(layer_id)
        if layer is None:
            raise Corruption("ref", f"layer {layer_id}, which is missing")
        return layer

    def _freeze(self, layer: Layer) -> None:
        if not layer.frozen:
            layer.freeze()
            self.unsealed[layer.id] = layer

    def _put(self, ref: bytes, value: bytes, moved: dict[bytes, Snapshot]) -> None:
        if ref == BASE_KEY:
            self.base = decode_base(value)
            self.base_found()
        elif (setting := setting_name(ref)) is not None:
            self.settings[setting] = value.decode(errors="replace")
        elif (timed := split_timed(ref)) is not None:
            self._put_timed(self._branch(timed[0]), timed[1], value)
        else:
            branch_id, name = split_key(ref)
            if name is None:
                self._put_branch(branch_id, value)
            else:
                self._put_snapshot(self._branch(branch_id), name, value, moved)
        self.refs[ref] = value
        self.changed_refs.add(ref)

    def _branch(self, branch_id: int) -> Branch:
        branch = self.branches.get(branch_id)
        if branch is None:
            raise Corruption("ref", f"branch {branch_id}, which is missing")
        return branch

    def _put_branch(self, branch_id: int, value: bytes) -> None:
        record = decode_branch(value)
        top = self._layer(record.top)
        branch = self.branches.get(branch_id)
        if branch is not None:
            if branch.parent is not None and record.name != branch.name:
                del branch.parent.children[branch.name]
                branch.parent.children[record.name] = branch
            branch.record = record
            branch.view.top = top
            return
        parent = self._branch(record.parent) if record.parent else None
        view = View(self.engine, record.number, top, read_only=False)
        branch = Branch(branch_id, record, parent, view)
        self.branches[branch_id] = branch
        self.views[record.number] = view
        self._next_number = max(self._next_number, record.number + 1)
        self.next_branch = max(self.next_branch, branch_id + 1)
        if parent is not None:
            parent.children[record.name] = branch
            view.share_root(parent.view)

    def _put_snapshot(self, branch: Branch, name: bytes, value: bytes, moved: dict[bytes, Snapshot]) -> None:
        record = decode_snapshot(value)
        snapshot = branch.snapshots.get(name)
        if snapshot is not None:
            snapshot.record = record
            return
        snapshot = moved.pop(value, None)
        if snapshot is None:
            snapshot = Snapshot(branch, name, record, self._layer(record.state))
        snapshot.name, snapshot.branch, snapshot.dropped = name, branch, False
        branch.snapshots[name] = snapshot

    def _put_timed(self, branch: Branch, name: bytes, value: bytes) -> None:
        record = decode_snapshot(value)
        branch.timed[name] = Snapshot(branch, name, record, self._layer(record.state), timed=True)

    def _remove(self, ref: bytes, moved: dict[bytes, Snapshot]) -> None:
        """Remove a ref. A snapshot goes to `moved` by its value: a rename puts it back under another name."""
        if (setting := setting_name(ref)) is not None:
            self.settings.pop(setting, None)
            del self.refs[ref]
            self.changed_refs.add(ref)
            return
        timed = split_timed(ref)
        branch_id, name = timed or split_key(ref)
        branch = self._branch(branch_id)
        if timed is not None:
            branch.timed.pop(timed[1]).dropped = True
            self.let_go += 1
        elif name is not None:
            snapshot = branch.snapshots.pop(name)
            snapshot.dropped = True
            moved[self.refs[ref]] = snapshot
        else:
            del self.branches[branch_id]
            if branch.parent is not None:
                del branch.parent.children[branch.name]
            branch.dropped = True
            branch.view.read_only = True
            if not branch.view.is_held:
                self.release_view(branch.view)
        del self.refs[ref]
        self.changed_refs.add(ref)
        self.sweep_due = True

    def view_of(self, snapshot: Snapshot) -> View:
        """The view of a snapshot, made when first asked for."""
        if snapshot.view is None:
            number = self.allocate_number()
            read_only = not snapshot.filling
            snapshot.view = View(self.engine, number, snapshot.state, read_only=read_only)
            snapshot.view.share_root(snapshot.branch.view)
            self.views[number] = snapshot.view
        return snapshot.view

    def allocate_number(self) -> int:
        """A view number that no view has."""
        if self._next_number < VIEWS_MAX:
            self._next_number += 1
            return self._next_number - 1
        while self._free_numbers:
            number = self._free_numbers.popleft()
            if number not in self.views:
                return number
        raise AssertionError("every view number is in use")

    def release_view(self, view: View) -> None:
        """The kernel holds nothing of a view any more: its number may be used again once it is not a branch's."""
        if self.views.get(view.number) is not view:
            return
        if any(branch.view is view for branch in self.branches.values()):
            return
        del self.views[view.number]
        self.generations[view.number] = self.generations.get(view.number, 0) + 1
        self._free_numbers.append(view.number)

    def unflushed_records(self) -> int:
        """What a flush would have to write."""
        records = sum(layer.unflushed_records for layer in self.layers.values())
        return records + FLUSH_RECORDS_OF_OPERATION * len(self.new_operations)

    def pinned_segments(self) -> set[int]:
        """The journal segments that some extent points into."""
        found: set[int] = set()
        for layer in (*self.layers.values(), *self.engine.orphans):
            for ino in layer.uncut:
                extents = layer.deltas[ino].extents
                assert extents is not None
                found |= extents.segments()
        return found

    @contextmanager
    def holding(self, *layers: Layer) -> Iterator[None]:
        """Keep some states for work that goes on between requests, whatever becomes of their names."""
        self._held.append(layers)
        try:
            yield
        finally:
            self._held.remove(layers)
            self.sweep_due = True

    def reachable(self) -> set[int]:
        """The ids of the layers that something still refers to."""
        found: set[int] = set()
        for layer in self._starts():
            at: Layer | None = layer
            while at is not None and at.id not in found:
                found.add(at.id)
                at = at.below
        return found

    def sweep(self) -> None:
        """Forget the layers that nothing refers to any more."""
        self.sweep_due = False
        for layer_id in self.layers.keys() - self.reachable():
            layer = self.layers.pop(layer_id)
            self.unsealed.pop(layer_id, None)
            if layer.stored:
                self.swept.add(layer_id)

    def _starts(self) -> Iterator[Layer]:
        for branch in self.branches.values():
            yield branch.view.top
            yield from self._named(branch.record.base)
            for _, source, state in branch.record.merged:
                if source in self.branches:
                    yield from self._named(state)
            for snapshot in branch.timed.values():
                yield snapshot.state
        for snapshot in self.snapshots():
            yield snapshot.state
        for view in self.views.values():
            yield view.top
        for layers in self._held:
            yield from layers
        for orphan in self.engine.orphans:
            if orphan.below is not None:
                yield orphan.below
        for operation in self.log:
            if operation.time < self.horizon:
                continue
            for ref, before, _ in operation.changes:
                if before is not None:
                    yield from self._named(self.state_of(ref, before))

    def _named(self, layer_id: int) -> Iterator[Layer]:
        layer = self.layers.get(layer_id)
        if layer is not None:
            yield layer

    @staticmethod
    def state_of(ref: bytes, value: bytes) -> int:
        """The layer id that a ref's value names."""
        if setting_name(ref) is not None or ref == BASE_KEY:
            return 0
        _, name = split_key(ref)
        return decode_branch(value).top if name is None else decode_snapshot(value).state

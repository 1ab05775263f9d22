"""One change of refs under construction: gathered, then appended to the journal and applied at once."""

import errno

from msgspec.structs import replace

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.layers.replay import REFS
from heliosfs.view.inode import Caller
from heliosfs.volume import operations, refs
from heliosfs.volume.branch import Branch
from heliosfs.volume.operations import Operation, RefChange
from heliosfs.volume.refs import RefsRecord, branch_key
from heliosfs.volume.registry import Registry


class Transaction:
    """Gathers; `commit` makes it real, or raises OSError and has changed nothing. ESTALE for a branch that is gone: who
    was in it may still ask for something, and a record that says something of it could not be replayed."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._layers: list[tuple[int, int]] = []
        self._frozen: list[int] = []
        self._refs: dict[bytes, bytes | None] = {}
        self._shown: list[RefChange] = []

    def new_layer(self, below: int) -> int:
        """A mutable layer above another, which is frozen by it; 0 for nothing below. Its id."""
        layer_id = self.registry.allocate_layer()
        self._layers.append((layer_id, below))
        return layer_id

    def freeze(self, branch: Branch) -> int:
        """The id of the state that a branch has now. It goes on in a new layer above that."""
        branch.check_there()
        top = branch.view.top
        state = top.state
        if state is top:
            self._set_top(branch, self.new_layer(top.id))
        return state.id

    def freeze_layer(self, layer_id: int) -> None:
        """Freeze a layer without going on above it."""
        self._frozen.append(layer_id)

    def _set_top(self, branch: Branch, layer_id: int) -> None:
        ref = branch_key(branch.id)
        self._refs[ref] = refs.encode(replace(branch.record, top=layer_id))

    def put(self, ref: bytes, value: bytes) -> None:
        """Set a ref: part of what the operation log shows and undo reverts."""
        self._show(ref, value)
        self._refs[ref] = value

    def remove(self, ref: bytes) -> None:
        """Remove a ref, likewise."""
        self._show(ref, None)
        self._refs[ref] = None

    def _show(self, ref: bytes, value: bytes | None) -> None:
        self._shown.append((ref, self.registry.refs.get(ref), value))

    def show(self, ref: bytes, before: bytes | None, after: bytes | None) -> None:
        """Let the log show a change in other words than the refs have it."""
        self._shown.append((ref, before, after))

    def set(self, ref: bytes, value: bytes) -> None:
        """Set a ref without showing it in the log."""
        self._refs[ref] = value

    def drop(self, ref: bytes) -> None:
        """Remove a ref without showing it in the log."""
        self._refs[ref] = None

    def commit(
        self, verb: str = "", text: str = "", caller: Caller | None = None, branch: int = 0, *, freeing: bool = False
    ) -> None:
        """Append to the journal and apply. Without a verb nothing enters the operation log.

        With `freeing`, and when a ref goes, it leads to free space: on a full disk it may use the reserve.
        """
        self._check_branches()
        registry = self.registry
        operation, encoded = None, None
        if verb:
            assert caller is not None
            operation, encoded = operations.chain(Operation(
                number=registry.next_operation(), time=now(), verb=verb, text=text, uid=caller.uid, pid=caller.pid,
                command=caller.command, branch=branch, changes=self._shown, previous=registry.last_hash(),
            ))  # fmt: skip
        record = RefsRecord(self._layers, self._frozen, list(self._refs.items()), encoded)
        if freeing or any(value is None for value in self._refs.values()):
            registry.engine.append_freeing(REFS, refs.encode(record))
        else:
            registry.engine.journal.append(REFS, refs.encode(record))
        registry.apply(record, operation)

    def _check_branches(self) -> None:
        """ESTALE when what is put belongs to a branch that is gone."""
        there, known = self.registry.branches, self.registry.refs
        for ref, value in self._refs.items():
            if value is None or ref in known:  # with a branch goes all that belongs to it
                continue
            owner = refs.owner(ref, value)
            if owner and owner not in there and branch_key(owner) not in self._refs:
                raise Refusal(errno.ESTALE, "the branch was deleted")

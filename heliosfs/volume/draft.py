"""A new state of a branch in the making: all of it becomes the branch's state at once, or nothing does.

The draft is a layer above the branch's state to which no ref leads. A crash leaves it unreachable, and it is swept.
From the making of a draft to its end the volume must not do anything else, unless the draft's layers are held; then
`is_current` says whether the branch is still what the draft was made from.
"""

from collections.abc import Callable

from msgspec.structs import replace

from heliosfs.layers.layer import Layer
from heliosfs.view.inode import Caller
from heliosfs.view.view import View
from heliosfs.volume import refs
from heliosfs.volume.branch import Branch
from heliosfs.volume.refs import BranchRecord, branch_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction


class Draft:
    """Changes go into `view`; `before` is the state that the branch has until the commit."""

    def __init__(self, registry: Registry, branch: Branch) -> None:
        self._registry = registry
        self._branch = branch
        transaction = Transaction(registry)
        before = transaction.freeze(branch)
        layer = transaction.new_layer(before)
        transaction.commit()
        registry.sweep_due = True
        self.before = registry.layers[before]
        self.layer = registry.layers[layer]
        self.view = View(registry.engine, branch.view.number, self.layer, read_only=False)

    def is_current(self) -> bool:
        """Whether the branch has had no change since."""
        branch, top = self._branch, self._branch.view.top
        return not branch.dropped and top.empty and top.below is self.before

    def commit(
        self,
        verb: str,
        text: str,
        caller: Caller,
        *,
        change: Callable[[BranchRecord], BranchRecord] = lambda record: record,
        also: Callable[[Transaction], None] = lambda transaction: None,
    ) -> set[int]:
        """Make the draft the state of the branch, in one record with whatever `also` adds.

        Returns the numbers of the inodes that may have changed.
        """
        transaction = Transaction(self._registry)
        branch, ref = self._branch, branch_key(self._branch.id)
        record = change(branch.record)
        if self.layer.empty:
            transaction.put(ref, refs.encode(record))
        else:
            top = transaction.new_layer(self.layer.id)
            transaction.set(ref, refs.encode(replace(record, top=top)))
            shown = (replace(branch.record, top=self.before.id), replace(record, top=self.layer.id))
            transaction.show(ref, *map(refs.encode, shown))
        also(transaction)
        transaction.commit(verb, text, caller, branch.id)
        changed = set(self.layer.deltas)
        if changed:
            branch.view.switched(self.before, changed)
        return changed


def frozen(registry: Registry, branch: Branch) -> Layer:
    """The state that a branch has, frozen."""
    transaction = Transaction(registry)
    state = transaction.freeze(branch)
    transaction.commit()
    return registry.layers[state]

"""A branch that was dropped while somebody was in it: what they still ask of it is refused, and nothing of it gets into
the journal, which could not be replayed."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from heliosfs.base.errors import Refusal
from heliosfs.store.store import Store
from heliosfs.volume import working_states
from heliosfs.volume.branch import Branch
from heliosfs.volume.volume import Volume
from tests.store.support import copy_live
from tests.volume.conftest import CALLER

ACTIONS: dict[str, Callable[[Volume, Branch], object]] = {
    "snapshot": lambda volume, branch: volume.snapshot(branch, b"new", CALLER),
    "filling": lambda volume, branch: volume.snapshot(branch, b"new", CALLER, empty=True, filling=1),
    "fork": lambda volume, branch: volume.fork(branch, b"new", CALLER),
    "empty fork": lambda volume, branch: volume.fork(branch, b"new", CALLER, empty=True),
    "restore": lambda volume, branch: volume.restore(branch, volume.main.snapshots[b"one"], CALLER),
    "undo": lambda volume, branch: volume.undo(branch, CALLER),
    "merge": lambda volume, branch: volume.merge(branch, volume.main, CALLER),
    "show": lambda volume, branch: working_states.show(volume.registry, branch, "now", CALLER),
}


def put(volume: Volume, branch: Branch, name: bytes) -> None:
    view = branch.view
    view.write(view.make(view.root, name, 0o100644, CALLER), 0, name)


def check_refused(volume: Volume, branch: Branch) -> None:
    for action in ACTIONS.values():
        with pytest.raises(Refusal) as caught:
            action(volume, branch)
        assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("changed", [False, True])
def test_nothing_is_done_in_a_branch_that_is_gone(volume: Volume, tmp_path: Path, changed: bool) -> None:
    volume.snapshot(volume.main, b"one", CALLER)
    branch = volume.fork(volume.main, b"branch", CALLER)
    put(volume, branch, b"file")
    volume.snapshot(branch, b"kept", CALLER)
    volume.drop_snapshot(branch, b"kept", CALLER)
    put(volume, volume.main, b"file")
    if changed:
        put(volume, branch, b"other")
    volume.drop_branch(volume.main, b"branch", CALLER)
    check_refused(volume, branch)
    copy = tmp_path / "copy"
    copy_live(volume.store.path, copy)
    again = Volume.open(Store.open(copy))
    assert not again.main.children and not volume.main.children
    assert len(again.registry.branches) == len(volume.registry.branches) == 1
    again.close()


def test_one_that_came_back_is_not_the_one_that_is_gone(volume: Volume) -> None:
    volume.snapshot(volume.main, b"one", CALLER)
    gone = volume.fork(volume.main, b"branch", CALLER)
    put(volume, gone, b"file")
    volume.drop_branch(volume.main, b"branch", CALLER)
    volume.undo(volume.main, CALLER)
    check_refused(volume, gone)
    back = volume.main.children[b"branch"]
    assert back is not gone and not back.snapshots and not back.children
    assert [name for name, _, _ in back.view.entries(back.view.root)] == [b"file"]

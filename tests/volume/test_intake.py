"""An import that is refused in the middle: what it made goes again, and the directories are as they were."""

import errno
from collections.abc import Callable
from stat import S_IFBLK, S_IFDIR

import pytest

from heliosfs.base.errors import Refusal
from heliosfs.volume.intake import Intake
from heliosfs.volume.source import Item
from heliosfs.volume.volume import Volume
from tests.volume.conftest import CALLER


def test_the_link_counts_of_what_is_refused_are_as_before(
    volume: Volume, reopen: Callable[[Volume], Volume]
) -> None:
    root = volume.main.view.root
    intake = Intake(volume, volume.main, b".", CALLER, False)
    directories = [Item(0, b"%d" % number, S_IFDIR | 0o755, number=number) for number in range(1, 4)]
    with pytest.raises(Refusal) as refused:
        for _ in intake.take([*directories, Item(0, b"device", S_IFBLK | 0o600)]):
            pass
    assert refused.value.errno == errno.EPERM
    for _ in intake.undo():
        pass
    assert root.nlink == 2
    volume.main.view.make(root, b"directory", S_IFDIR | 0o755, CALLER)
    volume = reopen(volume)
    assert volume.main.view.root.nlink == 3
    volume.close()

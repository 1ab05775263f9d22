"""What the kernel knows, and that it is let go of when the kernel forgets it."""

from stat import S_IFDIR, S_IFREG

import pytest

from heliosfs.base.keys import INO_BITS
from heliosfs.fuse.inode_table import FOREVER, absent_for
from heliosfs.fuse.numbers import MOUNT_ROOT
from heliosfs.fuse.reports import Reports
from heliosfs.view.inode import Caller, Inode
from heliosfs.volume.volume import Volume
from tests.fuse.conftest import Table

CALLER = Caller(1000, 1000, 1, b"test")


@pytest.fixture
def inode(volume: Volume) -> Inode:
    view = volume.main.view
    return view.make(view.root, b"file", S_IFREG | 0o640, CALLER)


def test_what_is_entered_is_known_until_it_is_forgotten_as_often(counted: Table, inode: Inode) -> None:
    table = counted.table
    for _ in range(3):
        assert table.enter(inode).st_ino == inode.ino
    table.forget(inode, inode.ino, 2)
    assert table.known[inode.ino] is inode
    table.forget(inode, inode.ino, 1)
    assert inode.ino not in table.known and inode.ino not in inode.view.inodes


def test_an_open_file_stays_in_memory_when_the_kernel_forgets_its_name(counted: Table, inode: Inode) -> None:
    counted.table.enter(inode)
    inode.opens += 1
    counted.table.forget(inode, inode.ino, 1)
    assert inode.view.inodes[inode.ino] is inode
    inode.opens -= 1
    counted.table.let_go(inode)
    assert inode.ino not in inode.view.inodes


def test_attributes_are_made_once_and_anew_after_a_change(counted: Table, inode: Inode) -> None:
    entry = counted.table.attributes(inode)
    assert (entry.st_mode, entry.st_uid, entry.st_size, entry.attr_timeout) == (inode.mode, 1000, 0, FOREVER)
    assert counted.table.attributes(inode) is entry
    inode.view.write(inode, 0, b"x" * 5000)
    assert counted.table.attributes(inode).st_size == 5000
    assert counted.table.attributes(inode).st_mtime_ns == inode.mtime
    assert inode.lookups == 0


def test_a_removed_directory_is_another_one_from_then_on_and_a_file_is_not(volume: Volume, counted: Table) -> None:
    view, table = volume.main.view, counted.table
    file = view.make(view.root, b"file", S_IFREG | 0o640, CALLER)
    directory = view.make(view.root, b"directory", S_IFDIR | 0o750, CALLER)
    before = [table.enter(inode).generation for inode in (file, directory)]
    view.unlink(view.root, b"file")
    view.rmdir(view.root, b"directory")
    after = [table.attributes(inode).generation for inode in (file, directory)]
    assert after[0] == before[0] and after[1] != before[1]


def test_the_root_of_the_mount_is_number_one_whichever_branch_it_is(volume: Volume, counted: Table) -> None:
    child = volume.fork(volume.main, b"child", CALLER)
    assert counted.table.number(volume.main.view.root) == MOUNT_ROOT
    assert counted.table.number(child.view.root) == child.view.number << INO_BITS | 1


def test_a_view_that_nobody_holds_is_released(volume: Volume, counted: Table) -> None:
    snapshot = volume.snapshot(volume.main, b"s", CALLER)
    view = volume.view_of(snapshot)
    root = view.root
    counted.table.enter(root)
    assert not counted.released
    counted.table.forget(root, counted.table.number(root), 1)
    assert counted.released == [view]


def test_an_absent_name_has_number_zero() -> None:
    entry = absent_for(FOREVER)
    assert (entry.st_ino, entry.entry_timeout) == (0, FOREVER)


def test_reports_are_kept_while_the_kernel_knows_them() -> None:
    reports = Reports()
    first = reports.enter(3, 7, b"a..b")
    assert reports.enter(3, 7, b"a..b") is first
    assert reports.enter(3, 8, b"a..b").number != first.number
    reports.forget(first.number, 1)
    assert reports.get(first.number) is first
    reports.forget(first.number, 1)
    assert reports.get(first.number) is None
    reports.forget(first.number, 1)
    assert reports.enter(3, 7, b"a..b").number != first.number

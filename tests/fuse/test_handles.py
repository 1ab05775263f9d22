"""Open files and directories: positions in a listing, look-ups that the kernel has to give back, counters."""

import os
from collections.abc import Iterator
from stat import S_IFDIR, S_IFREG

import pytest
from pyfuse3 import EntryAttributes, InodeT

from heliosfs.base.errors import Corruption
from heliosfs.fuse.handles import Handles, OpenDirectory, OpenFile, OpenFileWithAccessTime
from heliosfs.fuse.made import MadeDirectory
from heliosfs.view.inode import Caller, Inode
from heliosfs.view.view import View
from heliosfs.volume.volume import Volume
from tests.fuse.conftest import Listing, Table

CALLER = Caller(1000, 1000, 1, b"test")


@pytest.fixture
def directory(volume: Volume) -> Iterator[Inode]:
    """A directory with the files a to j."""
    view = volume.main.view
    directory = view.make(view.root, b"directory", S_IFDIR | 0o755, CALLER)
    for name in b"abcdefghij":
        view.make(directory, bytes([name]), S_IFREG | 0o644, CALLER)
    yield directory


def read_all(opened: OpenDirectory | MadeDirectory, kernel: type[Listing], room: int) -> Iterator[bytes]:
    """The names in pieces of `room`, each from where the one before ended; the caller may change things between."""
    position = 0
    while True:
        token = kernel(room)
        opened.reply(position, token)  # type: ignore[arg-type]
        if not token.entries:
            return
        yield from token.names
        position = token.end


@pytest.mark.parametrize("room", [1, 2, 3, 5, 12, 100])
def test_a_listing_in_pieces_has_every_name_once(
    directory: Inode, counted: Table, kernel: type[Listing], room: int
) -> None:
    names = list(read_all(OpenDirectory(directory, counted.table), kernel, room))
    assert names == [b".", b"..", *(bytes([name]) for name in b"abcdefghij")]


def test_every_position_can_be_gone_back_to(directory: Inode, counted: Table, kernel: type[Listing]) -> None:
    opened = OpenDirectory(directory, counted.table)
    whole = kernel(100)
    opened.reply(0, whole)  # type: ignore[arg-type]
    for index, (_, _, following) in enumerate(whole.entries):
        rest = kernel(100)
        opened.reply(following, rest)  # type: ignore[arg-type]
        assert rest.entries == whole.entries[index + 1 :]


def test_positions_keep_their_meaning_while_names_come_and_go(
    volume: Volume, directory: Inode, counted: Table, kernel: type[Listing]
) -> None:
    view = volume.main.view
    names = read_all(OpenDirectory(directory, counted.table), kernel, 1)
    seen = [next(names) for _ in range(5)]
    assert seen[2:] == [b"a", b"b", b"c"]
    view.unlink(directory, b"a")
    view.unlink(directory, b"e")
    view.make(directory, b"aa", S_IFREG | 0o644, CALLER)
    view.rename(directory, b"g", directory, b"z", 0)
    rest = list(names)
    assert {b"d", b"f", b"h", b"i", b"j"} <= set(rest) and b"e" not in rest and b"g" not in rest
    assert len(set(rest)) == len(rest) and not set(rest) & set(seen)


def test_the_beginning_shows_what_is_there_now(
    volume: Volume, directory: Inode, counted: Table, kernel: type[Listing]
) -> None:
    opened = OpenDirectory(directory, counted.table)
    list(read_all(opened, kernel, 100))
    volume.main.view.make(directory, b"new", S_IFREG | 0o644, CALLER)
    assert b"new" in list(read_all(opened, kernel, 100))


def test_a_file_replaced_under_its_name_is_left_out(
    volume: Volume, directory: Inode, counted: Table, kernel: type[Listing]
) -> None:
    """The listing had another file there: which one would be true cannot be told."""
    names = read_all(OpenDirectory(directory, counted.table), kernel, 1)
    for _ in range(3):
        next(names)
    volume.main.view.unlink(directory, b"d")
    other = volume.main.view.make(directory, b"d", S_IFREG | 0o644, CALLER)
    volume.main.view.forget(other)
    assert b"d" not in list(names)
    assert other.ino not in volume.main.view.inodes, "nobody holds it"


def test_only_what_the_kernel_took_is_held(
    volume: Volume, directory: Inode, counted: Table, kernel: type[Listing]
) -> None:
    opened = OpenDirectory(directory, counted.table)
    token = kernel(4)
    opened.reply(0, token)  # type: ignore[arg-type]
    assert token.names == [b".", b"..", b"a", b"b"]
    view = volume.main.view
    held = {name: view.lookup(directory, name) for name in (b"a", b"b", b"c")}
    assert [inode and inode.lookups for inode in held.values()] == [1, 1, 0]
    assert directory.lookups == 0, "`.` is no look-up"
    known = {number for number in counted.table.known if number != 1}
    assert known == {inode.ino for inode in held.values() if inode is not None and inode.lookups}


def test_a_damaged_file_is_listed_all_the_same(
    directory: Inode, counted: Table, kernel: type[Listing], monkeypatch: pytest.MonkeyPatch, volume: Volume
) -> None:
    view = volume.main.view
    damaged = next(ino for name, ino, _ in view.entries(directory) if name == b"c")
    view.inodes.pop(damaged, None)
    whole = View.inode

    def inode(self: View, ino: int) -> Inode:
        if ino == damaged:
            raise Corruption("inode", str(ino))
        return whole(self, ino)

    monkeypatch.setattr(View, "inode", inode)
    token = kernel(100)
    OpenDirectory(directory, counted.table).reply(0, token)  # type: ignore[arg-type]
    assert (b"c", damaged) in [(name, number) for name, number, _ in token.entries]
    assert damaged not in counted.table.known


@pytest.mark.parametrize("room", [1, 100])
def test_reserved_names_follow_all_others(
    directory: Inode, counted: Table, kernel: type[Listing], room: int
) -> None:
    opened = OpenDirectory(directory, counted.table)
    entry = EntryAttributes()
    entry.st_ino = InodeT(2)
    opened.extra = lambda: [(b".snapshots", entry), (b".branches", entry)]
    assert list(read_all(opened, kernel, room))[-3:] == [b"j", b".snapshots", b".branches"]


def test_a_directory_that_hides_all_is_empty(directory: Inode, counted: Table, kernel: type[Listing]) -> None:
    opened = OpenDirectory(directory, counted.table)
    opened.hide_all = True
    assert list(read_all(opened, kernel, 100)) == [b".", b".."]


@pytest.mark.parametrize("room", [1, 3, 100])
def test_a_made_directory_in_pieces(
    volume: Volume, directory: Inode, counted: Table, kernel: type[Listing], room: int
) -> None:
    table, view = counted.table, volume.main.view
    names = [b"b", b"gone", b"a"]
    opened = MadeDirectory(
        table, table.attributes(view.root), lambda: list(names), lambda name: view.lookup(directory, name)
    )
    assert list(read_all(opened, kernel, room)) == [b".", b"..", b"b", b"a"]
    held = [view.lookup(directory, name) for name in (b"a", b"b", b"c")]
    assert [inode and inode.lookups for inode in held] == [1, 1, 0]


def test_handles_count_what_can_be_mapped_for_writing(volume: Volume) -> None:
    view = volume.main.view
    inode = view.make(view.root, b"file", S_IFREG | 0o644, CALLER)
    handles = Handles()
    numbers = [handles.add(OpenFile(inode, flags, 0, 0, 0)) for flags in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY)]
    assert len(set(numbers)) == 3 and inode.opens == 3 and handles.mappable == 1
    for number in numbers:
        handles.remove(number)
    assert inode.opens == 0 and handles.mappable == 0 and not handles.files


def test_a_file_waits_for_the_cutter_once_for_each_who_wrote_it(volume: Volume) -> None:
    inode = volume.main.view.make(volume.main.view.root, b"file", S_IFREG | 0o644, CALLER)
    writer, *others = (OpenFile(inode, os.O_RDWR, 0, 0, 0) for _ in range(3))
    writer.write(0, b"bytes")
    for file in (*others, writer):
        file.close()
    assert list(volume.engine.closed) == [(volume.main.view.top, inode.ino)]


def test_writers_who_are_not_root_take_privileges_away(volume: Volume) -> None:
    view = volume.main.view
    inode = view.make(view.root, b"file", S_IFREG | 0o6755, CALLER)
    OpenFile(inode, os.O_WRONLY, 0, 0, 0).write(0, b"root")
    assert inode.mode & 0o6000 == 0o6000
    OpenFile(inode, os.O_WRONLY, 1000, 1000, 0).write(0, b"user")
    assert inode.mode & 0o6000 == 0
    assert bytes(OpenFile(inode, os.O_RDONLY, 0, 0, 0).read(0, 10)) == b"user"


def test_access_times_change_once_after_a_change(volume: Volume) -> None:
    view = volume.main.view
    inode = view.make(view.root, b"file", S_IFREG | 0o644, CALLER)
    opened = OpenFileWithAccessTime(inode, os.O_RDONLY, 0, 0, 0)
    view.set_attributes(inode, atime=1, mtime=2)
    changed = inode.ctime
    opened.read(0, 1)
    assert inode.atime > 2 and inode.ctime == changed
    view.set_attributes(inode, atime=inode.ctime + 1, ctime=inode.ctime)
    noted = inode.atime
    opened.read(0, 1)
    assert inode.atime == noted

"""Limits of names, which a mount would take long to reach."""

import errno
from collections.abc import Iterator
from stat import S_IFDIR, S_IFREG

import pytest

from heliosfs.base.errors import Refusal
from heliosfs.base.limits import TIME_NANOSECONDS_MAX, TIME_NANOSECONDS_MIN
from heliosfs.view import names
from heliosfs.volume.volume import Volume
from tests.volume.trees import CALLER, new_volume


@pytest.fixture
def volume() -> Iterator[Volume]:
    with new_volume() as volume:
        yield volume


def test_a_file_has_so_many_names_and_no_more(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LINKS_MAX", 5)
    view = volume.main.view
    file = view.make(view.root, b"file", S_IFREG | 0o644, CALLER)
    for number in range(4):
        view.link(file, view.root, b"link %d" % number)
    with pytest.raises(Refusal) as refused:
        view.link(file, view.root, b"another")
    assert refused.value.errno == errno.EMLINK
    assert file.nlink == 5
    view.unlink(view.root, b"file")
    view.link(file, view.root, b"another")


def test_directories_count_beyond_that(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LINKS_MAX", 5)
    view = volume.main.view
    for number in range(10):
        view.make(view.root, b"directory %d" % number, S_IFDIR | 0o755, CALLER)
    assert view.root.nlink == 12


def test_times_that_no_record_holds_become_the_nearest(volume: Volume) -> None:
    view = volume.main.view
    file = view.make(view.root, b"file", S_IFREG | 0o644, CALLER)
    view.set_attributes(file, atime=TIME_NANOSECONDS_MIN - 1, mtime=TIME_NANOSECONDS_MAX + 1, ctime=1 << 70)
    file.decode(file.encode())
    assert (file.atime, file.mtime, file.ctime) == (TIME_NANOSECONDS_MIN, TIME_NANOSECONDS_MAX, TIME_NANOSECONDS_MAX)

"""The same bytes are stored once."""

import random
from collections.abc import Callable

from heliosfs.view.view import View
from heliosfs.volume.volume import Volume
from tests.volume.conftest import CALLER

FILES = [(b"small%d" % number, 700 + number * 31) for number in range(100)] + [
    (b"large%d" % number, 400_000 + number * 10_007) for number in range(8)
]


def packed(volume: Volume) -> int:
    return sum(file.stat().st_size for file in (volume.store.path / "packs").iterdir())


def copy_in(volume: Volume, view: View, name: bytes, change: Callable[[bytes], bytes]) -> int:
    """Write the same files into a new directory; by how many bytes the packs grew."""
    before = packed(volume)
    chance = random.Random(3)
    directory = view.make(view.root, name, 0o040755, CALLER)
    for file_name, length in FILES:
        inode = view.make(directory, file_name, 0o100644, CALLER)
        data = change(chance.randbytes(length))
        for at in range(0, len(data), 10_240):
            view.write(inode, at, data[at : at + 10_240])
        view.closed(inode)
    while volume.dirty():
        volume.step()
    volume.flush()
    return packed(volume) - before


def test_the_same_tree_again_adds_almost_nothing(volume: Volume) -> None:
    first = copy_in(volume, volume.main.view, b"one", lambda data: data)
    assert first > 3_000_000
    second = copy_in(volume, volume.main.view, b"two", lambda data: data)
    assert second < first * 0.02
    child = volume.fork(volume.main, b"child", CALLER)
    assert copy_in(volume, child.view, b"three", lambda data: data) < first * 0.02


def test_large_files_shifted_by_some_bytes_add_little(volume: Volume) -> None:
    first = copy_in(volume, volume.main.view, b"one", lambda data: data)
    shifted = copy_in(
        volume, volume.main.view, b"two", lambda data: b"12345" + data if len(data) > 100_000 else data
    )
    assert shifted < first * 0.2

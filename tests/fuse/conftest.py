"""A volume, and what stands in for the kernel where entries of a directory are sent to it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyfuse3 import EntryAttributes

from heliosfs.fuse import handles, made
from heliosfs.fuse.inode_table import InodeTable
from heliosfs.store.store import Store
from heliosfs.view.view import View
from heliosfs.volume.volume import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """An empty volume."""
    volume = Volume.open(Store.open(tmp_path / "store"))
    yield volume
    volume.close()


@dataclass
class Table:
    """An inode table, and the views that it said nobody holds any more."""

    table: InodeTable
    released: list[View] = field(default_factory=list)


@pytest.fixture
def counted(volume: Volume) -> Table:
    released: list[View] = []
    return Table(InodeTable(volume.main.view.root, volume.generation, released.append), released)


class Listing:
    """One request for entries: takes `room` of them, as the kernel's buffer does, and refuses the next."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.entries: list[tuple[bytes, int, int]] = []
        """(name, inode number, position after it)."""

    @property
    def names(self) -> list[bytes]:
        return [name for name, _, _ in self.entries]

    @property
    def end(self) -> int:
        return self.entries[-1][2]


def _reply(token: Any, name: bytes, entry: EntryAttributes, following: int) -> bool:
    if len(token.entries) >= token.room:
        return False
    token.entries.append((bytes(name), int(entry.st_ino), following))
    return True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> type[Listing]:
    """Takes the entries in the place of the kernel."""
    monkeypatch.setattr(handles, "readdir_reply", _reply)
    monkeypatch.setattr(made, "readdir_reply", _reply)
    return Listing

"""Trees for tests: a volume in a directory, steps that change a tree, and what a view shows in plain words."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IMODE
from typing import Any, NamedTuple

from hypothesis import strategies as st

from heliosfs.base.errors import Refusal
from heliosfs.store.store import Store
from heliosfs.view.inode import Caller, Inode
from heliosfs.view.names import EXCHANGE
from heliosfs.view.view import View
from heliosfs.volume.volume import Volume

CALLER = Caller(1000, 1000, 1, b"test")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def new_volume() -> Iterator[Volume]:
    """A new volume in a directory of its own; it is not closed properly, only let go."""
    with tempfile.TemporaryDirectory(prefix="heliosfs-trees-", dir=MEMORY) as directory:
        volume = Volume.open(Store.open(Path(directory)))
        try:
            yield volume
        finally:
            volume.store.close()


def work(volume: Volume) -> None:
    """Do all background work: afterwards every frozen layer is a root."""
    while volume.dirty():
        volume.step()


def settle(volume: Volume) -> None:
    """Cut, seal and flush all there is."""
    for layer in list(volume.registry.layers.values()):
        volume.engine.closed.extend((layer, ino) for ino in list(layer.uncut))
    work(volume)
    volume.flush()


def put(view: View, path: bytes, data: bytes = b"", mode: int = 0o644) -> Inode:
    """Make a file or replace its content, as `open(path, "w")` does; the directories on the way too."""
    above, _, name = path.rpartition(b"/")
    parent = directory(view, above)
    inode = view.lookup(parent, name)
    if inode is None:
        inode = view.make(parent, name, S_IFREG | mode, CALLER)
    elif inode.size:
        view.set_attributes(inode, size=0)
    view.write(inode, 0, data)
    return inode


def directory(view: View, path: bytes) -> Inode:
    """The directory at a path, made if absent."""
    at = view.root
    for name in path.split(b"/"):
        if name:
            at = view.lookup(at, name) or view.make(at, name, S_IFDIR | 0o755, CALLER)
    return at


def link(view: View, path: bytes, target: bytes) -> Inode:
    """A symbolic link."""
    above, _, name = path.rpartition(b"/")
    return view.make(directory(view, above), name, S_IFLNK | 0o777, CALLER, target=target)


def remove(view: View, path: bytes) -> None:
    """`rm -r`."""
    above, _, name = path.rpartition(b"/")
    parent = view.resolve(above)
    inode = view.lookup(parent, name)
    assert inode is not None
    if not inode.is_directory:
        view.unlink(parent, name)
        return
    for entry, _, _ in view.entries(inode):
        remove(view, path + b"/" + entry)
    view.rmdir(parent, name)


def move(view: View, old: bytes, new: bytes, flags: int = 0) -> None:
    """`mv`, which makes the directories on the way too."""
    above, _, name = old.rpartition(b"/")
    below, _, new_name = new.rpartition(b"/")
    view.rename(view.resolve(above), name, directory(view, below), new_name, flags)


class Shown(NamedTuple):
    """All that counts of one path."""

    type: int
    content: bytes
    mode: int
    owner: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]
    ino: int


def shown(view: View) -> dict[bytes, Shown]:
    """Every path of a tree with what is there, found by walking it."""
    found: dict[bytes, Shown] = {}
    pending = [(b"", view.root)]
    while pending:
        path, inode = pending.pop()
        kind = S_IFMT(inode.mode)
        content = b""
        if kind == S_IFDIR:
            for name, _, _ in view.entries(inode):
                child = view.lookup(inode, name)
                assert child is not None
                pending.append((path + b"/" + name if path else name, child))
        elif kind == S_IFREG:
            content = bytes(view.read(inode, 0, inode.size))
        elif kind == S_IFLNK:
            content = view.readlink(inode)
        xattrs = tuple((name, view.get_xattr(inode, name)) for name in view.list_xattrs(inode))
        owner = (inode.uid, inode.gid)
        found[path or b"."] = Shown(kind, content, S_IMODE(inode.mode), owner, xattrs, inode.ino)
    return found


Step = tuple[str, int, int, int]
PICK = st.integers(0, 999)
KINDS = (
    "put", "put", "put", "write", "truncate", "save", "mkdir", "symlink", "fifo", "remove", "rename", "rename",
    "rename", "exchange", "link", "chmod", "chown", "xattr", "touch", "work", "split",
)  # fmt: skip
STEPS: st.SearchStrategy[list[Step]] = st.lists(st.tuples(st.sampled_from(KINDS), PICK, PICK, PICK), max_size=25)
NAMES = [b"a", b"b", b"c", b"d e", b'\xff"\n']
TEXTS = [
    b"", b"one\n", b"one\ntwo\n", b"one\ntwo", b"\n", b"x" * 700, b"".join(b"line %d\n" % n for n in range(40)),
    b"".join(b"line %d\n" % (n + (n % 7 == 3)) for n in range(42)), b"same\n" * 30, b"\\ No newline\n-- \n",
]  # fmt: skip


def take(volume: Volume, steps: list[Step], allowed: Callable[[str], bool] = lambda kind: True) -> None:
    """Carry out steps on the main branch; what is not possible is left out."""
    view = volume.main.view
    for kind, first, second, third in steps:
        if not allowed(kind):
            continue
        paths = sorted(shown(view))
        old = paths[first % len(paths)]
        directories = [path for path in paths if view.resolve(path).is_directory]
        above = directories[second % len(directories)].removeprefix(b".")
        name = NAMES[third % len(NAMES)]
        new = above + b"/" + name if above else name
        try:
            _take(volume, kind, old, new, first + second * 7 + third * 3)
        except Refusal:
            pass


def _take(volume: Volume, kind: str, old: bytes, new: bytes, number: int) -> None:
    view = volume.main.view
    text = TEXTS[number % len(TEXTS)]
    inode = view.resolve(old)
    above, _, name = new.rpartition(b"/")
    parent = view.resolve(above)
    make: dict[str, Any] = {"mkdir": S_IFDIR | 0o755, "fifo": S_IFIFO | 0o644, "symlink": S_IFLNK | 0o777}
    if kind in make:
        view.make(parent, name, make[kind], CALLER, target=b"to/%d" % (number % 3) if kind == "symlink" else b"")
    elif kind == "put":
        if (there := view.lookup(parent, name)) is None or there.is_file:
            put(view, new, text, 0o755 if number % 4 == 0 else 0o644)
    elif kind == "write":
        view.write(inode, number % 50, text)
    elif kind == "truncate":
        view.set_attributes(inode, size=number % 60)
    elif kind == "save":
        if inode.is_file:
            put(view, old + b"~new", text, S_IMODE(inode.mode))
            move(view, old + b"~new", old)
    elif kind == "remove":
        if old != b".":
            remove(view, old)
    elif kind in ("rename", "exchange"):
        if old != b".":
            move(view, old, new, EXCHANGE if kind == "exchange" else 0)
    elif kind == "link":
        view.link(inode, parent, name)
    elif kind == "chmod":
        view.set_attributes(inode, mode=(0o644, 0o755, 0o600)[number % 3])
    elif kind == "chown":
        view.set_attributes(inode, uid=1000 + number % 2)
    elif kind == "xattr":
        view.set_xattr(inode, b"user.x", b"%d" % (number % 2))
    elif kind == "touch":
        view.set_attributes(inode, mtime=number)
    elif kind == "work":
        settle(volume)
    elif kind == "split":
        volume.snapshot(volume.main, b"split-%d" % volume.registry.next_layer, CALLER)

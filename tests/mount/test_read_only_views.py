"""Whatever would change a view that cannot change is refused with EROFS, by every system call there is for it.

The views: snapshots made in different ways, also for their owner who is not root, and what there is in mounts that
are read-only as a whole. After each refusal everything in the view is as it was.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from .differential.duel import summary
from .support import (
    NOBODY,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    UTIME_NOW,
    UTIME_OMIT,
    fails,
    is_root,
    mount_only,
    opened,
    rename_with,
    run,
    set_times,
    tool,
    user,
    working_directory,
)
from .volumes import MountedVolume, heliosfs, mounted

pytestmark = mount_only


def fill(root: Path) -> None:
    """One of everything, open to all as far as modes go: nothing else may be what refuses."""
    (root / "file").write_text("content")
    (root / "empty").touch()
    (root / "directory").mkdir()
    (root / "directory" / "below").write_text("below")
    (root / "bare").mkdir()
    (root / "link").symlink_to("file")
    (root / "dangling").symlink_to("nowhere")
    os.link(root / "file", root / "hard")
    os.mkfifo(root / "fifo")
    for path in root.iterdir():
        if not path.is_symlink():
            path.chmod(0o777)
        if is_root:
            os.lchown(path, NOBODY, NOBODY)
    os.setxattr(root / "file", "user.there", b"value")
    os.setxattr(root / "directory", "user.there", b"value")
    root.chmod(0o777)


class View(NamedTuple):
    root: Path
    uid: int
    """Who looks at it."""
    other: Path | None
    """Another tree in the same mount."""
    writable: bool
    """The mount as a whole."""


@pytest.fixture(scope="module")
def writable() -> Iterator[Path]:
    with mounted() as volume:
        fill(volume.path)
        (volume.path / ".snapshots" / "s").mkdir()
        (volume.path / ".branches" / "b").mkdir()
        (volume.path / ".branches" / "b" / ".snapshots" / "s").mkdir()
        tool("cp")
        run("cp", "-a", volume.path, volume.path / ".snapshots" / "copied")
        yield volume.path


@pytest.fixture(scope="module")
def unwritable() -> Iterator[MountedVolume]:
    with mounted() as volume:
        fill(volume.path)
        (volume.path / ".snapshots" / "s").mkdir()
        (volume.path / ".branches" / "b").mkdir()
        volume.unmount()
        volume.mount("--read-only")
        yield volume


SNAPSHOTS = {
    "snapshot": (".snapshots/s", 0),
    "snapshot as its owner": (".snapshots/s", NOBODY),
    "snapshot of a branch": (".branches/b/.snapshots/s", 0),
    "copied snapshot": (".snapshots/copied", 0),
}
READ_ONLY = {
    "read-only mount": (".", 0),
    "read-only mount as its owner": (".", NOBODY),
    "branch in a read-only mount": (".branches/b", 0),
    "snapshot in a read-only mount": (".snapshots/s", 0),
}


@pytest.fixture(scope="module", params=[*SNAPSHOTS, *READ_ONLY, "read-only mount of a branch"])
def view(request: pytest.FixtureRequest) -> Iterator[View]:
    name = request.param
    if name in SNAPSHOTS:
        where, uid = SNAPSHOTS[name]
        top: Path = request.getfixturevalue("writable")
        made = View(top / where, uid, top, True)
    elif name in READ_ONLY:
        where, uid = READ_ONLY[name]
        top = request.getfixturevalue("unwritable").path
        made = View(top / where, uid, top / ".snapshots" / "s" if where != ".snapshots/s" else top, False)
    else:
        volume: MountedVolume = request.getfixturevalue("unwritable")
        volume.unmount()
        volume.mount("--read-only", "--branch", "b")
        made, uid = View(volume.path, 0, None, False), 0
    if uid and not is_root:
        pytest.skip("needs root")
    yield made
    if name == "read-only mount of a branch":
        volume.unmount()
        volume.mount("--read-only")


def bind(path: Path) -> None:
    """A socket's name is made by bind; the directory keeps the path short enough for one."""
    with working_directory(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def by_descriptor(path: Path, act: Callable[[int], object]) -> None:
    with opened(path) as descriptor:
        act(descriptor)


def open_with(name: str, flags: int) -> Callable[[Path], object]:
    return lambda root: os.close(os.open(root / name, flags, 0o644))


def open_at(root: Path) -> None:
    with opened(root / "directory") as directory:
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=directory))


CALLS: dict[str, Callable[[Path], object]] = {
    "open for writing": open_with("file", os.O_WRONLY),
    "open for both": open_with("file", os.O_RDWR),
    "open to append": open_with("file", os.O_WRONLY | os.O_APPEND),
    "open and truncate": open_with("file", os.O_WRONLY | os.O_TRUNC),
    "open for reading and truncate": open_with("file", os.O_RDONLY | os.O_TRUNC),
    "open through a link": open_with("link", os.O_WRONLY),
    "create by open": open_with("new", os.O_WRONLY | os.O_CREAT),
    "create for reading": open_with("new", os.O_RDONLY | os.O_CREAT),
    "create exclusively": open_with("new", os.O_RDWR | os.O_CREAT | os.O_EXCL),
    "create through a link": open_with("dangling", os.O_WRONLY | os.O_CREAT),
    "create below": open_with("directory/new", os.O_WRONLY | os.O_CREAT),
    "create where there is a file": open_with("file", os.O_WRONLY | os.O_CREAT),
    "creat": open_with("file", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    "openat": open_at,
    "mkdir": lambda root: (root / "new").mkdir(),
    "mkdir below": lambda root: (root / "directory" / "new").mkdir(),
    "mknod of a file": lambda root: os.mknod(root / "new", stat.S_IFREG | 0o644),
    "mknod of a fifo": lambda root: os.mkfifo(root / "new"),
    "mknod of a device": lambda root: os.mknod(root / "new", stat.S_IFCHR | 0o644, os.makedev(1, 3)),
    "bind": lambda root: bind(root / "new"),
    "symlink": lambda root: (root / "new").symlink_to("file"),
    "link": lambda root: os.link(root / "file", root / "new"),
    "link of a link": lambda root: os.link(root / "link", root / "new", follow_symlinks=False),
    "unlink": lambda root: (root / "file").unlink(),
    "unlink of one of two names": lambda root: (root / "hard").unlink(),
    "unlink of a link": lambda root: (root / "link").unlink(),
    "unlink of a fifo": lambda root: (root / "fifo").unlink(),
    "unlink below": lambda root: (root / "directory" / "below").unlink(),
    "rmdir": lambda root: (root / "bare").rmdir(),
    "rename": lambda root: (root / "file").rename(root / "new"),
    "rename over a file": lambda root: (root / "file").rename(root / "empty"),
    "rename into a directory": lambda root: (root / "file").rename(root / "directory" / "new"),
    "rename of a directory": lambda root: (root / "directory").rename(root / "new"),
    "rename over a directory": lambda root: (root / "directory").rename(root / "bare"),
    "rename of a link": lambda root: (root / "link").rename(root / "new"),
    "renameat2 that replaces nothing": lambda root: rename_with(root / "file", root / "new", RENAME_NOREPLACE),
    "renameat2 that exchanges": lambda root: rename_with(root / "file", root / "directory", RENAME_EXCHANGE),
    "chmod": lambda root: (root / "file").chmod(0o600),
    "chmod to what it is": lambda root: (root / "file").chmod(0o777),
    "chmod of a directory": lambda root: (root / "directory").chmod(0o700),
    "chmod of the root": lambda root: root.chmod(0o700),
    "fchmod": lambda root: by_descriptor(root / "file", lambda descriptor: os.fchmod(descriptor, 0o600)),
    "chown": lambda root: os.chown(root / "file", 1, 1),
    "chown of the root": lambda root: os.chown(root, 1, 1),
    "lchown": lambda root: os.lchown(root / "link", 1, 1),
    "fchown": lambda root: by_descriptor(root / "file", lambda descriptor: os.fchown(descriptor, 1, 1)),
    "utime": lambda root: os.utime(root / "file", (1, 1)),
    "utime to now": lambda root: os.utime(root / "file"),
    "utime of a link": lambda root: os.utime(root / "link", (1, 1), follow_symlinks=False),
    "utime of a directory": lambda root: os.utime(root / "directory", (1, 1)),
    "utimensat of one time": lambda root: set_times(root / "file", (0, UTIME_OMIT), (0, UTIME_NOW)),
    "futimens": lambda root: by_descriptor(root / "file", lambda descriptor: os.utime(descriptor, (1, 1))),
    "truncate": lambda root: os.truncate(root / "file", 0),
    "truncate to more": lambda root: os.truncate(root / "file", 10_000),
    "truncate to what it is": lambda root: os.truncate(root / "file", 7),
    "setxattr": lambda root: os.setxattr(root / "file", "user.new", b"value"),
    "setxattr of what is there": lambda root: os.setxattr(root / "file", "user.there", b"other"),
    "setxattr of a directory": lambda root: os.setxattr(root / "directory", "user.new", b"value"),
    "setxattr of the root": lambda root: os.setxattr(root, "user.new", b"value"),
    "lsetxattr": lambda root: os.setxattr(root / "link", "trusted.new", b"value", follow_symlinks=False),
    "fsetxattr": lambda root: by_descriptor(root / "file", lambda file: os.setxattr(file, "user.new", b"value")),
    "removexattr": lambda root: os.removexattr(root / "file", "user.there"),
    "removexattr of a directory": lambda root: os.removexattr(root / "directory", "user.there"),
    "fremovexattr": lambda root: by_descriptor(root / "file", lambda file: os.removexattr(file, "user.there")),
    "mkdir in .snapshots": lambda root: (root / ".snapshots" / "new").mkdir(),
}  # fmt: skip

FOR_ROOT_ALONE = {
    "mknod of a device", "chmod of the root", "chown", "chown of the root", "lchown", "fchown", "lsetxattr",
}  # fmt: skip
"""Refused to others by the kernel before it comes to the filesystem."""


@contextlib.contextmanager
def acting(uid: int) -> Iterator[None]:
    with user(uid, uid) if uid else contextlib.nullcontext():
        yield


def outcome_of(call: Callable[[Path], object], root: Path) -> str:
    try:
        call(root)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "it succeeded"


def test_every_change_is_refused(view: View) -> None:
    before = summary(view.root)
    calls = {name: call for name, call in CALLS.items() if (is_root and not view.uid) or name not in FOR_ROOT_ALONE}
    outcomes: dict[str, str] = {}
    for name, call in calls.items():
        with acting(view.uid):
            outcomes[name] = outcome_of(call, view.root)
        if summary(view.root) != before:
            outcomes[name] = f"{outcomes[name]}, but something has changed"
    assert {name: seen for name, seen in outcomes.items() if seen != "EROFS"} == {}


def test_what_changes_nothing_is_allowed(view: View) -> None:
    with acting(view.uid):
        with opened(view.root / "file", os.O_RDONLY | os.O_CREAT) as descriptor:
            os.fsync(descriptor)
            with mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
                mapping[:3] = b"own"
            # What may be changed through a mapping must have been opened for it, and that is refused above.
            with fails(errno.EACCES):
                mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        set_times(view.root / "file", (0, UTIME_OMIT), (0, UTIME_OMIT))
        assert os.access(view.root / "file", os.R_OK | os.X_OK)
    assert (view.root / "file").read_text() == "content"


def test_nothing_comes_from_or_goes_to_other_trees(view: View) -> None:
    """EXDEV where a program may fall back to copying, which then meets EROFS."""
    if view.other is None:
        pytest.skip("there is no other tree")
    before, there = summary(view.root), summary(view.other)
    for act in (os.rename, os.link):
        with fails(errno.EXDEV, errno.EROFS):
            act(view.other / "empty", view.root / "new")
        with fails(errno.EXDEV, errno.EROFS):
            act(view.root / "empty", view.other / "new")
    assert (summary(view.root), summary(view.other)) == (before, there)


def test_a_fork_is_no_change_of_a_snapshot(view: View) -> None:
    """In a mount that can be written; one that is read-only as a whole refuses all verbs."""
    if view.writable:
        fork = view.root / ".branches" / "fork"
        fork.mkdir()
        (fork / "file").write_text("changed")
        assert (view.root / "file").read_text() == "content"
        fork.rmdir()
        return
    for kind in (".snapshots", ".branches"):
        with fails(errno.EROFS):
            (view.root / kind / "new").mkdir()
    for verb in ("restore", "undo", "merge"):
        with fails(errno.EROFS):
            (view.root / ".heliosfs" / verb).write_text("s")
    assert "read-only" in heliosfs("snapshot", "create", view.root, "new", status=1).lower()

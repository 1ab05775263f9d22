"""Special files: fifos, sockets, devices."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from .support import Child, fails, opened, root_only, user, working_directory


def test_a_fifo_connects_two_processes(tree: Path) -> None:
    os.mkfifo(tree / "fifo", 0o640)
    status = (tree / "fifo").stat()
    assert stat.S_ISFIFO(status.st_mode)
    assert (status.st_size, status.st_nlink) == (0, 1)
    source = "import sys; print(open('fifo').read())"
    with Child(source, cwd=tree) as reader:
        with opened(tree / "fifo", os.O_WRONLY) as descriptor:
            os.write(descriptor, b"through the fifo")
        assert reader.finish().strip() == "through the fifo"
    with fails(errno.ENXIO):
        os.open(tree / "fifo", os.O_WRONLY | os.O_NONBLOCK)


def test_a_fifo_lives_on_under_another_name(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with opened(tree / "fifo", os.O_RDWR) as descriptor:
        os.link(tree / "fifo", tree / "second")
        os.rename(tree / "fifo", tree / "third")
        with opened(tree / "third", os.O_WRONLY) as writer:
            os.write(writer, b"content")
        assert os.read(descriptor, 100) == b"content"
    (tree / "third").unlink()
    assert stat.S_ISFIFO((tree / "second").stat().st_mode)


def test_a_socket_is_bound_and_reached(tree: Path) -> None:
    with (
        working_directory(tree),
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as client,
    ):
        listener.bind("socket")
        listener.listen()
        assert stat.S_ISSOCK(os.stat("socket").st_mode)
        client.connect("socket")
        served, _ = listener.accept()
        with served:
            served.sendall(b"through the socket")
            assert client.recv(100) == b"through the socket"
        with socket.socket(socket.AF_UNIX) as second, fails(errno.EADDRINUSE):
            second.bind("socket")
        os.rename("socket", "moved")
        with socket.socket(socket.AF_UNIX) as another:
            another.connect("moved")
    with fails(errno.ENXIO):
        os.open(tree / "moved", os.O_RDWR)
    (tree / "moved").unlink()


def test_mknod_makes_regular_files(tree: Path) -> None:
    os.mknod(tree / "file", stat.S_IFREG | 0o600)
    assert (tree / "file").stat().st_mode == stat.S_IFREG | 0o600
    (tree / "file").write_text("content")
    assert (tree / "file").read_text() == "content"


@root_only
def test_devices_keep_their_numbers(tree: Path) -> None:
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        for major, minor in ((1, 3), (0, 0), (255, 255), (259, 70_000), (4_095, 1_048_575)):
            path = tree / f"device-{kind}-{major}-{minor}"
            os.mknod(path, kind | 0o600, os.makedev(major, minor))
            status = path.stat()
            assert stat.S_IFMT(status.st_mode) == kind
            assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (major, minor)
            os.rename(path, tree / "moved")
            assert (tree / "moved").stat().st_rdev == status.st_rdev
            (tree / "moved").unlink()


@root_only
def test_devices_are_for_root(tree: Path) -> None:
    tree.chmod(0o777)
    with user():
        with fails(errno.EPERM):
            os.mknod(tree / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mkfifo(tree / "fifo")
    assert os.listdir(tree) == ["fifo"]

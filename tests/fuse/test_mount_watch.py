"""Whether a mount of a directory shows, in the own mount namespace and in others. Needs root; mounts only a tmpfs."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliosfs.fuse import mount_table
from heliosfs.fuse.mount_watch import MountWatch, Namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


def _mount(*words: str | Path) -> bool:
    return subprocess.run(["mount", *map(str, words)], check=False, capture_output=True).returncode == 0


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """A filesystem with a directory `a`, and beside it a directory `elsewhere`."""
    top = tmp_path / "top"
    elsewhere = tmp_path / "elsewhere"
    for path in (top, elsewhere):
        path.mkdir()
    if not _mount("-t", "tmpfs", "tmpfs", top):
        pytest.skip("mounting is not allowed here")
    (top / "a").mkdir()
    yield top
    subprocess.run(["umount", "-q", str(elsewhere)], check=False, capture_output=True)
    subprocess.run(["umount", str(top)], check=True)


@pytest.fixture
def watch(top: Path) -> MountWatch:
    if Namespaces().mounts() is None:
        pytest.skip("this kernel does not enumerate namespaces")
    return MountWatch(mount_table.device_at(str(top)))


def test_nothing_is_certain_only_after_reading(watch: MountWatch) -> None:
    assert not watch.nothing()
    assert watch.read() == {b"/"}
    assert watch.nothing()


def test_a_directory_mounted_by_itself_shows_until_it_is_unmounted(watch: MountWatch, top: Path) -> None:
    watch.read()
    elsewhere = top.parent / "elsewhere"
    assert _mount("--bind", top / "a", elsewhere)
    assert not watch.nothing()
    assert watch.read() == {b"/", b"/a"}
    assert not watch.nothing(), "its path may change: it is to be read each time"
    subprocess.run(["umount", str(elsewhere)], check=True)
    assert watch.read() == {b"/"}
    assert watch.nothing()


def test_a_mount_in_another_namespace_shows(watch: MountWatch, top: Path) -> None:
    watch.read()
    elsewhere = top.parent / "elsewhere"
    script = f"mount --make-rprivate / && mount --bind {top}/a {elsewhere} && echo mounted && read line"
    command = ["unshare", "--mount", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        if process.stdout.readline() != b"mounted\n":
            pytest.skip("no mount namespace of one's own here")
        assert not watch.nothing()
        assert watch.read() == {b"/", b"/a"}
        process.stdin.close()
    assert watch.read() == {b"/"}


def test_the_quick_look_leaves_no_descriptors(watch: MountWatch) -> None:
    watch.read()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        watch.nothing()
    assert len(os.listdir("/proc/self/fd")) == before

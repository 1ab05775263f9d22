"""Fixtures: `tree` is a fresh directory to test POSIX in, `volume_mount` a mount to kill and remount.

With HELIOSFS_TEST_IN_BRANCH set, the fresh directories are in a branch instead of the root of the mount.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import on_host
from .volumes import MountedVolume, mounted, scratch_directory


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs a mount, unless it runs on the host."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and not on_host:
            item.add_marker(pytest.mark.mount)
            if not os.path.exists("/dev/fuse"):
                item.add_marker(pytest.mark.skip(reason="there is no /dev/fuse: nothing can be mounted here"))


@pytest.fixture(scope="module")
def volume() -> Iterator[MountedVolume]:
    """One mount for the tests of a module, unmounted and checked by fsck at its end."""
    if on_host:
        pytest.skip("HELIOSFS_TEST_DIRECTORY is set: there is no mount")
    with mounted() as served:
        yield served


@pytest.fixture(scope="module")
def base(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where this module's trees are made: in its mount, or in HELIOSFS_TEST_DIRECTORY on the host."""
    if on_host:
        with scratch_directory(Path(os.environ["HELIOSFS_TEST_DIRECTORY"])) as directory:
            yield directory
    else:
        served: MountedVolume = request.getfixturevalue("volume")
        yield branch_of(served) if "HELIOSFS_TEST_IN_BRANCH" in os.environ else served.path


def branch_of(served: MountedVolume) -> Path:
    branch = served.path / ".branches" / "tested"
    branch.mkdir(exist_ok=True)
    return branch


@pytest.fixture
def tree(base: Path) -> Path:
    """A fresh directory of this test's own."""
    directory = Path(tempfile.mkdtemp(prefix="tree-", dir=base))
    directory.chmod(0o755)
    return directory


@pytest.fixture
def volume_mount() -> Iterator[MountedVolume]:
    """A mount of this test's own."""
    if on_host:
        pytest.skip("HELIOSFS_TEST_DIRECTORY is set: there is no mount")
    with mounted() as served:
        yield served


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with one of everything."""
    root = tmp_path / "source"
    (root / "d" / "deep" / "deeper").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o700)
    (root / "d" / "small").write_text("small")
    (root / "d" / "none").touch()
    (root / "d" / "medium").write_bytes(os.urandom(5000))
    (root / "d" / "deep" / "big").write_bytes(os.urandom(3_000_000))
    os.link(root / "d" / "small", root / "d" / "deep" / "linked")
    os.symlink("../nowhere", root / "link")
    os.mkfifo(root / "fifo")
    with open(root / "sparse", "wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
        file.truncate(9 << 20)
    os.setxattr(root / "d" / "small", "user.x", b"value")
    os.chmod(root / "d" / "medium", 0o4751)
    for path in (root / "d" / "small", root / "d", root / "d" / "deep"):
        os.utime(path, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
    return root

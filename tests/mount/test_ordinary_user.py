"""What needs no root, as an ordinary user: the tests of other modules once more, with mounts made by fusermount3.

They run in a process of that user, in namespaces of its own: there it can reach the interpreter and this repository
even if they lie in someone's home, and /dev/fuse has the rights that udev gives it. Nothing is left when it ends.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import NOBODY, mount_only, root_only, run, tool
from .volumes import REPOSITORY, scratch_directory

pytestmark = [mount_only, root_only]

HERE = Path(__file__).parent
DEAD_MOUNT = HERE.parent / "cli" / "test_mounted.py::test_a_dead_mount_is_told_and_cleared_away"
WORDS = "mkdir_takes or mappings or starts_empty or restore_shows or goes_on or as_the_root or lasts"
TESTS: dict[str, list[str | Path]] = {
    "files": [HERE / "test_names.py", HERE / "test_files.py", HERE / "test_locks.py"],
    "snapshots": [HERE / "test_namespace.py", DEAD_MOUNT, "-k", f"{WORDS} or cleared_away"],
}
"""A part of all, which is enough: what differs is how a mount is made and ended, and who may do what. All of them pass
or say that they need root."""


@pytest.fixture
def home() -> Iterator[Path]:
    with scratch_directory() as directory:
        (directory / "home").mkdir()
        os.chown(directory / "home", NOBODY, NOBODY)
        yield directory / "home"


def closed_above(path: Path) -> Path | None:
    """The highest directory above a path that others may not search."""
    above = [*reversed(path.parents)]
    return next((directory for directory in above if not directory.stat().st_mode & stat.S_IXOTH), None)


def opened_up(home: Path) -> Iterator[str]:
    """Shell commands that make what the tests need reachable, by covering the closed directories above it."""
    yield "umount --all --lazy --types fuse.heliosfs"  # they are others', and could not end before we do
    needed = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, REPOSITORY)}
    within = {path: closed for path in needed if (closed := closed_above(path)) is not None}
    kept = {path: home.parent / f"kept-{number}" for number, path in enumerate(within)}
    for path, place in kept.items():
        yield shlex.join(["mkdir", str(place)])
        yield shlex.join(["mount", "--rbind", str(path), str(place)])
    for closed in set(within.values()):
        yield shlex.join(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(closed)])
    for path, place in kept.items():
        yield shlex.join(["mkdir", "-p", str(path)])
        yield shlex.join(["mount", "--rbind", str(place), str(path)])
    device = os.stat("/dev/fuse")
    if device.st_mode & 0o666 != 0o666:
        node = str(home.parent / "fuse")
        numbers = [str(os.major(device.st_rdev)), str(os.minor(device.st_rdev))]
        yield shlex.join(["mknod", node, "c", *numbers])
        yield shlex.join(["chmod", "666", node])
        yield shlex.join(["mount", "--bind", node, "/dev/fuse"])


@pytest.mark.parametrize("part", TESTS)
def test_as_an_ordinary_user(home: Path, part: str) -> None:
    for name in ("unshare", "setpriv", "fusermount3"):
        tool(name)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, TESTS[part])]
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    # The shell stays until the tests are done: it reaps what daemons leave, and with it everything ends.
    commands = ["set -e", *opened_up(home), "code=0", f"{shlex.join([*user, *tests])} || code=$?", "exit $code"]
    spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    environment = {"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run(*spaces, "sh", "-c", "\n".join(commands), cwd=REPOSITORY, environment=environment, timeout=550)
    assert " passed" in done.stdout

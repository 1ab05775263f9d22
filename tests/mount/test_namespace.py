"""The reserved names of a tree root: snapshots, branches and verbs, by file calls and by the command."""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .support import (
    CLOCK_TICK_SECONDS,
    NOBODY,
    TIMEOUT_SECONDS,
    Child,
    fails,
    mount_only,
    on_host,
    opened,
    root_only,
    run,
    tool,
    user,
    working_directory,
)
from .volumes import MountedVolume, heliosfs, mounted

pytestmark = mount_only

RESERVED = [".snapshots", ".branches", ".heliosfs"]


@pytest.fixture(scope="module")
def shared() -> Iterator[MountedVolume]:
    if on_host:
        pytest.skip("HELIOSFS_TEST_DIRECTORY is set: there is no mount")
    with mounted() as volume:
        yield volume


@pytest.fixture
def root(shared: MountedVolume, request: pytest.FixtureRequest) -> Path:
    """A tree root of this test's own: a branch, which a root's every rule must hold for as well."""
    branch = shared.path / ".branches" / str(request.node.name).translate(str.maketrans("[]/ ", "____"))[:200]
    branch.mkdir()
    return branch


@pytest.fixture(params=["main", "branch"])
def either_root(request: pytest.FixtureRequest) -> Path:
    """The main branch's root of a fresh volume, and a branch's root."""
    if request.param == "branch":
        branch: Path = request.getfixturevalue("root")
        return branch
    fresh: MountedVolume = request.getfixturevalue("volume_mount")
    return fresh.path


def content_of(tree: Path) -> dict[str, str | None]:
    """All paths below a root with the files' text; directories have None."""
    return {
        str(path.relative_to(tree)): path.read_text() if path.is_file() else None for path in sorted(tree.rglob("*"))
    }


def fill(tree: Path) -> dict[str, str | None]:
    (tree / "file").write_text("content")
    (tree / "directory" / "below").mkdir(parents=True)
    (tree / "directory" / "below" / "deep").write_text("deep content")
    os.link(tree / "file", tree / "directory" / "link")
    return content_of(tree)


# The names themselves


def test_reserved_names_are_reachable_and_not_listed(either_root: Path) -> None:
    (either_root / "file").touch()
    assert os.listdir(either_root) == ["file"]
    for name in RESERVED:
        assert (either_root / name).is_dir()
        assert os.listdir(either_root / name) is not None
    assert os.listdir(either_root / ".snapshots") == []
    assert os.listdir(either_root / ".branches") == []
    assert run("find", ".", "-mindepth", "1", cwd=either_root).stdout == "./file\n"


def test_reserved_names_cannot_be_made_moved_or_removed(either_root: Path) -> None:
    (either_root / "directory").mkdir()
    (either_root / "file").touch()
    for name in RESERVED:
        path = either_root / name
        for creation in (path.mkdir, lambda p=path: p.symlink_to("x"), lambda p=path: os.mknod(p)):
            with fails(errno.EEXIST):
                creation()
        with fails(errno.EEXIST):
            os.link(either_root / "file", path)
        with fails(errno.EEXIST):
            os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        with fails(errno.EBUSY):
            path.rmdir()
        with fails(errno.EBUSY, errno.EISDIR):
            path.unlink()
        with fails(errno.EBUSY):
            os.rename(path, either_root / "elsewhere")
        with fails(errno.EBUSY):
            os.rename(either_root / "directory", path)
        with fails(errno.EBUSY, errno.EISDIR):
            os.rename(either_root / "file", path)
    assert sorted(os.listdir(either_root)) == ["directory", "file"]


def test_reserved_names_mean_nothing_below_the_root(root: Path) -> None:
    (root / "directory").mkdir()
    for name in RESERVED:
        with fails(errno.ENOENT):
            (root / "directory" / name).stat()
        (root / "directory" / name).mkdir()
        (root / "directory" / name / "file").write_text("ordinary")
    assert sorted(os.listdir(root / "directory")) == sorted(RESERVED)
    shutil.rmtree(root / "directory")


def test_an_option_lists_the_reserved_names() -> None:
    with mounted(["list_magic"]) as volume:
        (volume.path / "file").touch()
        (volume.path / ".branches" / "b").mkdir()
        for tree in (volume.path, volume.path / ".branches" / "b"):
            assert sorted(os.listdir(tree)) == sorted([*RESERVED, "file"])
            with os.scandir(tree) as entries:
                assert all(entry.is_dir() for entry in entries if entry.name in RESERVED)


def test_removing_everything_in_the_root_spares_the_reserved_names(root: Path) -> None:
    fill(root)
    (root / ".snapshots" / "s").mkdir()
    run("sh", "-c", "rm -rf ./* && find . -mindepth 1 | wc -l", cwd=root)
    assert os.listdir(root) == []
    assert os.listdir(root / ".snapshots") == ["s"]
    with fails(errno.EROFS):
        (root / ".snapshots" / "s" / "file").unlink()


# Snapshots


def test_mkdir_takes_a_snapshot(either_root: Path) -> None:
    before = fill(either_root)
    (either_root / ".snapshots" / "one").mkdir()
    assert os.listdir(either_root / ".snapshots") == ["one"]
    (either_root / "file").write_text("changed")
    (either_root / "directory" / "below" / "deep").unlink()
    (either_root / "new").touch()
    after = content_of(either_root)
    (either_root / ".snapshots" / "two").mkdir()
    shutil.rmtree(either_root / "directory")
    assert content_of(either_root / ".snapshots" / "one") == before
    assert content_of(either_root / ".snapshots" / "two") == after
    assert sorted(os.listdir(either_root / ".snapshots")) == ["one", "two"]


def test_a_snapshot_keeps_every_attribute(root: Path) -> None:
    path = root / "file"
    path.write_text("content")
    os.setxattr(path, "user.name", b"value")
    path.chmod(0o4751)
    os.utime(path, ns=(1, 123_456_789_012_345_678))
    (root / "link").symlink_to("file")
    os.mkfifo(root / "fifo")
    before = path.stat()
    (root / ".snapshots" / "s").mkdir()
    path.chmod(0o600)
    os.removexattr(path, "user.name")
    path.write_text("changed")
    kept = root / ".snapshots" / "s" / "file"
    after = kept.stat()
    fields = ("st_mode", "st_uid", "st_gid", "st_nlink", "st_size", "st_mtime_ns", "st_ctime_ns", "st_blocks")
    assert [getattr(after, field) for field in fields] == [getattr(before, field) for field in fields]
    assert os.getxattr(kept, "user.name") == b"value"
    assert os.readlink(root / ".snapshots" / "s" / "link") == "file"
    assert stat.S_ISFIFO((root / ".snapshots" / "s" / "fifo").lstat().st_mode)


def test_a_snapshot_changes_nothing_of_its_tree(root: Path) -> None:
    fill(root)
    before = {path: os.lstat(root / path) for path in (".", "file", "directory")}
    (root / ".snapshots" / "s").mkdir()
    for path, status in before.items():
        after = os.lstat(root / path)
        assert (after.st_ino, after.st_ctime_ns, after.st_mtime_ns, after.st_nlink) == (
            status.st_ino,
            status.st_ctime_ns,
            status.st_mtime_ns,
            status.st_nlink,
        )


CHANGES: dict[str, Callable[[Path], object]] = {
    "open for writing": lambda tree: os.open(tree / "file", os.O_WRONLY),
    "open for appending": lambda tree: os.open(tree / "file", os.O_RDWR | os.O_APPEND),
    "create": lambda tree: os.open(tree / "new", os.O_CREAT | os.O_WRONLY),
    "truncate": lambda tree: os.truncate(tree / "file", 0),
    "mkdir": lambda tree: (tree / "directory" / "new").mkdir(),
    "rmdir": lambda tree: (tree / "empty").rmdir(),
    "unlink": lambda tree: (tree / "file").unlink(),
    "symlink": lambda tree: (tree / "new").symlink_to("file"),
    "link": lambda tree: os.link(tree / "file", tree / "new"),
    "mknod": lambda tree: os.mknod(tree / "new"),
    "rename": lambda tree: os.rename(tree / "file", tree / "new"),
    "chmod": lambda tree: (tree / "file").chmod(0o600),
    "chmod of the root": lambda tree: tree.chmod(0o700),
    "chown": lambda tree: os.chown(tree / "file", os.geteuid(), os.getegid()),
    "utime": lambda tree: os.utime(tree / "file"),
    "setxattr": lambda tree: os.setxattr(tree / "file", "user.name", b"value"),
    "removexattr": lambda tree: os.removexattr(tree / "file", "user.kept"),
    "utime of the root": lambda tree: os.utime(tree, (1, 1)),
    "bind": lambda tree: bind(tree),
}


def bind(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, working_directory(tree):
        listener.bind("new")


@pytest.fixture(scope="module")
def frozen(shared: MountedVolume) -> Path:
    branch = shared.path / ".branches" / "frozen"
    branch.mkdir()
    fill(branch)
    (branch / "empty").mkdir()
    os.setxattr(branch / "file", "user.kept", b"value")
    (branch / ".snapshots" / "s").mkdir()
    return branch / ".snapshots" / "s"


@pytest.mark.parametrize("change", CHANGES)
def test_a_snapshot_refuses_every_change(frozen: Path, change: str) -> None:
    before = content_of(frozen)
    with fails(errno.EROFS):
        CHANGES[change](frozen)
    assert content_of(frozen) == before
    assert os.getxattr(frozen / "file", "user.kept") == b"value"


def test_open_files_of_a_snapshot_change_nothing_either(frozen: Path) -> None:
    with opened(frozen / "file") as descriptor:
        with fails(errno.EROFS):
            os.fchmod(descriptor, 0o600)
        with fails(errno.EROFS):
            os.utime(descriptor, (1, 1))
        with fails(errno.EACCES):
            mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def test_snapshots_are_dropped_whole(root: Path) -> None:
    fill(root)
    for name in ("one", "two"):
        (root / ".snapshots" / name).mkdir()
    (root / ".snapshots" / "one").rmdir()  # though it is not empty
    assert os.listdir(root / ".snapshots") == ["two"]
    with fails(errno.ENOENT):
        (root / ".snapshots" / "one" / "file").stat()
    with fails(errno.ENOENT):
        (root / ".snapshots" / "one").rmdir()
    run("rm", "-r", root / ".snapshots" / "two")
    assert os.listdir(root / ".snapshots") == []
    assert (root / "file").read_text() == "content"


def test_rm_removes_branches_whole(root: Path) -> None:
    fill(root)
    for name in ("one", "two"):
        (root / ".branches" / name).mkdir()
        (root / ".branches" / name / "more").mkdir()
    run("rm", "-r", root / ".branches" / "one")
    run("rm", "-rf", "two", cwd=root / ".branches")
    assert os.listdir(root / ".branches") == []
    assert (root / "file").read_text() == "content"
    heliosfs("undo", root)
    assert os.listdir(root / ".branches") == ["two"]
    assert (root / ".branches" / "two" / "file").read_text() == "content"


def test_rm_inside_a_branch_removes_only_what_it_names(root: Path) -> None:
    """Only at the branch's root, reached by its name, does rm see nothing to remove first."""
    fill(root)
    (root / ".branches" / "b").mkdir()
    run("rm", "-r", root / ".branches" / "b" / "directory")
    assert os.listdir(root / ".branches" / "b") == ["file"]
    assert (root / "directory" / "below" / "deep").exists()


def test_a_dropped_snapshot_is_brought_back(root: Path) -> None:
    before = fill(root)
    (root / ".snapshots" / "s").mkdir()
    (root / "file").write_text("changed")
    (root / ".snapshots" / "s").rmdir()
    heliosfs("undo", root)
    assert content_of(root / ".snapshots" / "s") == before
    assert (root / "file").read_text() == "changed"


def test_snapshots_are_renamed(root: Path) -> None:
    before = fill(root)
    for name in ("one", "two"):
        (root / ".snapshots" / name).mkdir()
    with fails(errno.EEXIST, errno.ENOTEMPTY):
        os.rename(root / ".snapshots" / "one", root / ".snapshots" / "two")
    os.rename(root / ".snapshots" / "one", root / ".snapshots" / "three")
    assert sorted(os.listdir(root / ".snapshots")) == ["three", "two"]
    assert content_of(root / ".snapshots" / "three") == before
    with fails(errno.ENOENT):
        os.rename(root / ".snapshots" / "one", root / ".snapshots" / "four")


@pytest.mark.parametrize(("names", "verb"), [(".snapshots", "snapshot"), (".branches", "branch")])
def test_nothing_is_called_as_the_present_state_is(root: Path, names: str, verb: str) -> None:
    """`heliosfs restore . now` would go to the present state, and so do nothing, without a word."""
    (root / names / "s").mkdir()
    with fails(errno.EEXIST):
        (root / names / "now").mkdir()
    with fails(errno.EEXIST):
        os.rename(root / names / "s", root / names / "now")
    assert "choose another name" in heliosfs(verb, "create", root, "now", status=1)
    assert os.listdir(root / names) == ["s"]


def test_names_of_snapshots_are_taken_once(root: Path) -> None:
    (root / ".snapshots" / "s").mkdir()
    with fails(errno.EEXIST):
        (root / ".snapshots" / "s").mkdir()
    with fails(errno.ENAMETOOLONG):
        (root / ".snapshots" / ("s" * 256)).mkdir()
    odd = os.path.join(os.fsencode(root), b".snapshots", b"\xff odd \n name")
    os.mkdir(odd)
    assert b"\xff odd \n name" in os.listdir(os.path.join(os.fsencode(root), b".snapshots"))
    os.rmdir(odd)


def test_what_else_cannot_be_done_among_the_snapshots(root: Path) -> None:
    (root / "file").touch()
    (root / "directory").mkdir()
    (root / ".snapshots" / "s").mkdir()
    refusals: list[Callable[[], object]] = [
        lambda: (root / ".snapshots" / "link").symlink_to("s"),
        lambda: os.mkfifo(root / ".snapshots" / "fifo"),
        lambda: os.rename(root / ".snapshots" / "s", root / "moved"),
        lambda: os.rename(root / "directory", root / ".snapshots" / "directory"),
        lambda: os.link(root / "file", root / ".snapshots" / "link"),
    ]
    for refusal in refusals:
        with fails(errno.EROFS, errno.EPERM, errno.EXDEV, errno.EACCES):
            refusal()
    assert os.listdir(root / ".snapshots") == ["s"]
    assert sorted(os.listdir(root)) == ["directory", "file"]


def test_trees_are_apart(root: Path) -> None:
    """Links and moves between trees are refused as between devices, so that mv and ln fall back."""
    fill(root)
    (root / ".snapshots" / "s").mkdir()
    (root / ".branches" / "b").mkdir()
    other = root / ".branches" / "b"
    for action in (os.link, os.rename):
        with fails(errno.EXDEV):
            action(root / "file", other / "new")
        with fails(errno.EXDEV):
            action(other / "file", root / "new")
        with fails(errno.EXDEV, errno.EROFS):
            action(root / ".snapshots" / "s" / "file", root / "new")
    run("mv", root / "file", other / "moved")
    assert (other / "moved").read_text() == "content"
    assert not (root / "file").exists()
    shutil.copy2(root / ".snapshots" / "s" / "file", root / "file")
    assert (root / "file").read_text() == "content"


def test_a_snapshot_holds_what_mappings_wrote(root: Path) -> None:
    """Dirty pages of shared mappings are flushed first, without an msync."""
    (root / "file").write_bytes(bytes(100_000))
    with opened(root / "file", os.O_RDWR) as descriptor, mmap.mmap(descriptor, 0) as mapping:
        for number in range(3):
            mapping[number * 30_000 : number * 30_000 + 7] = b"mapped%d" % number
            (root / ".snapshots" / f"s{number}").mkdir()
        mapping[0:7] = b"later.."
        for number in range(3):
            kept = (root / ".snapshots" / f"s{number}" / "file").read_bytes()
            expected = bytearray(100_000)
            for earlier in range(number + 1):
                expected[earlier * 30_000 : earlier * 30_000 + 7] = b"mapped%d" % earlier
            assert kept == bytes(expected)


def test_a_snapshot_holds_every_write_that_returned(root: Path) -> None:
    source = """
import os, sys
descriptor = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
number = 0
for line in sys.stdin:
    for _ in range(int(line)):
        os.write(descriptor, b"%06d\\n" % number)
        number += 1
    print(number, flush=True)
"""
    with Child(source, cwd=root) as writer:
        for turn in range(20):
            writer.say("37")
            written = int(writer.hear())
            (root / ".snapshots" / f"s{turn}").mkdir()
            lines = (root / ".snapshots" / f"s{turn}" / "log").read_text().splitlines()
            assert lines == [f"{number:06}" for number in range(written)]


def test_an_open_file_of_a_snapshot_outlives_it(root: Path) -> None:
    (root / "file").write_text("content")
    (root / ".snapshots" / "s").mkdir()
    (root / "file").write_text("changed")
    with opened(root / ".snapshots" / "s" / "file") as descriptor:
        (root / ".snapshots" / "s").rmdir()
        try:
            assert os.pread(descriptor, 100, 0) == b"content"
        except OSError as error:
            assert error.errno in (errno.ESTALE, errno.EIO)


# Branches


def test_mkdir_forks_a_branch(either_root: Path) -> None:
    before = fill(either_root)
    branch = either_root / ".branches" / "b"
    branch.mkdir()
    assert content_of(branch) == before
    (branch / "file").write_text("changed in the branch")
    shutil.rmtree(branch / "directory")
    (branch / "new").write_text("new in the branch")
    assert content_of(either_root) == before
    (either_root / "file").write_text("changed in the parent")
    assert content_of(branch) == {"file": "changed in the branch", "new": "new in the branch"}
    assert os.listdir(either_root / ".branches") == ["b"]


def test_open_files_stay_in_their_tree(root: Path) -> None:
    (root / "file").write_text("one ")
    with opened(root / "file", os.O_WRONLY | os.O_APPEND) as descriptor:
        (root / ".branches" / "b").mkdir()
        os.write(descriptor, b"two")
    assert (root / "file").read_text() == "one two"
    assert (root / ".branches" / "b" / "file").read_text() == "one "


def test_branches_are_dropped(root: Path) -> None:
    fill(root)
    branch = root / ".branches" / "b"
    branch.mkdir()
    (branch / ".branches" / "child").mkdir()
    with fails(errno.ENOTEMPTY):
        branch.rmdir()
    (branch / ".branches" / "child").rmdir()
    branch.rmdir()
    assert os.listdir(root / ".branches") == []
    with fails(errno.ENOENT):
        (branch / "file").stat()
    heliosfs("undo", root)
    assert (branch / "file").read_text() == "content"


@root_only
def test_a_branch_mounted_elsewhere_stays(root: Path, tmp_path: Path) -> None:
    branch = root / ".branches" / "child"
    for part in (branch, branch / "directory"):
        other = root / ".branches" / "other"
        other.mkdir()
        other.rmdir()  # nothing is mounted: remembered for the next time
        (branch / "directory").mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(part), str(tmp_path)], check=True)
        try:
            with fails(errno.EBUSY):
                branch.rmdir()
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)
    branch.rmdir()


def test_branches_are_renamed(root: Path) -> None:
    fill(root)
    for name in ("one", "two"):
        (root / ".branches" / name).mkdir()
        (root / ".branches" / name / "name").write_text(name)
    with fails(errno.EEXIST, errno.ENOTEMPTY):
        os.rename(root / ".branches" / "one", root / ".branches" / "two")
    ino = (root / ".branches" / "one" / "name").stat().st_ino
    os.rename(root / ".branches" / "one", root / ".branches" / "three")
    assert sorted(os.listdir(root / ".branches")) == ["three", "two"]
    assert (root / ".branches" / "three" / "name").read_text() == "one"
    assert (root / ".branches" / "three" / "name").stat().st_ino == ino
    with fails(errno.EEXIST):
        (root / ".branches" / "three").mkdir()


def test_branches_are_roots_again(root: Path) -> None:
    fill(root)
    current = root
    for level in range(5):
        (current / ".branches" / "next").mkdir()
        current = current / ".branches" / "next"
        (current / "level").write_text(str(level))
        (current / ".snapshots" / "s").mkdir()
        (current / "level").write_text("changed")
    current = root
    for level in range(5):
        current = current / ".branches" / "next"
        assert (current / "level").read_text() == "changed"
        assert (current / ".snapshots" / "s" / "level").read_text() == str(level)
        assert os.listdir(current / ".snapshots") == ["s"]
    assert not (root / "level").exists()


def test_a_snapshot_is_forked(root: Path) -> None:
    before = fill(root)
    (root / ".snapshots" / "s").mkdir()
    (root / "file").write_text("changed")
    (root / ".snapshots" / "s" / ".branches" / "b").mkdir()
    found = [
        path for path in (root / ".branches" / "b", root / ".snapshots" / "s" / ".branches" / "b") if path.exists()
    ]
    assert found, "the fork is found among the branches"
    assert content_of(found[0]) == before
    (found[0] / "file").write_text("changed in the fork")
    assert content_of(root / ".snapshots" / "s") == before
    assert (root / "file").read_text() == "changed"


def test_a_branch_sees_nothing_above_or_beside_it(root: Path) -> None:
    (root / ".snapshots" / "of-the-parent").mkdir()
    for name in ("one", "two"):
        (root / ".branches" / name).mkdir()
    assert os.listdir(root / ".branches" / "one" / ".snapshots") == []
    assert os.listdir(root / ".branches" / "one" / ".branches") == []


def test_a_working_directory_in_a_branch(root: Path) -> None:
    fill(root)
    branch = root / ".branches" / "b"
    branch.mkdir()
    assert run("pwd", "-P", cwd=branch / "directory").stdout.strip() == str(branch / "directory")
    source = "import os; os.chdir('directory/below'); print(os.getcwd()); print(os.path.realpath('../..'))"
    lines = run(sys.executable, "-c", source, cwd=branch).stdout.splitlines()
    assert lines == [str(branch / "directory" / "below"), str(branch)]


def test_many_branches_are_apart(root: Path) -> None:
    (root / "file").write_text("of the parent")
    for number in range(60):
        (root / ".branches" / f"b{number}").mkdir()
    for number in range(60):
        (root / ".branches" / f"b{number}" / "file").write_text(f"of branch {number}")
    for number in range(60):
        assert (root / ".branches" / f"b{number}" / "file").read_text() == f"of branch {number}"
    assert (root / "file").read_text() == "of the parent"
    assert len(os.listdir(root / ".branches")) == 60


# Numbers


def test_inode_numbers_are_distinct_and_small(root: Path) -> None:
    fill(root)
    (root / ".snapshots" / "s").mkdir()
    (root / ".branches" / "b").mkdir()
    trees = [root, root / ".snapshots" / "s", root / ".branches" / "b"]
    places = [".", "file", "directory", "directory/below/deep", *RESERVED[:2]]
    numbers = [os.lstat(tree / place).st_ino for tree in trees for place in places if (tree / place).exists()]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < 2**53
    assert min(numbers) > 0
    assert (trees[1] / "file").stat().st_ino == (trees[1] / "directory" / "link").stat().st_ino
    assert not os.path.samefile(root / "file", trees[1] / "file")
    for tree in trees:
        with os.scandir(tree) as entries:
            assert {entry.name: entry.inode() for entry in entries} == {
                name: os.lstat(tree / name).st_ino for name in os.listdir(tree)
            }


def test_numbers_last_over_remounts(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    fill(root)
    (root / ".branches" / "b").mkdir()
    (root / ".branches" / "b" / "new").touch()
    paths = [
        "file",
        "directory/below",
        ".branches/b/file",
        ".branches/b/new",
        ".branches/b/directory/below/deep",
    ]
    before = [(root / path).stat().st_ino for path in paths]
    assert before[0] < 2**32, "the main branch's are small"
    volume_mount.remount()
    assert [(root / path).stat().st_ino for path in paths] == before


# Copies


def attributes_of(tree: Path) -> dict[str, tuple[int, int, int, int, int]]:
    found = {}
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(tree))] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_size if not path.is_dir() else 0,
            status.st_mtime_ns,
        )
    return found


@pytest.fixture
def source(root: Path) -> Path:
    """A tree to copy from: outside the reserved names, in a directory of the live tree."""
    fill(root)
    directory = root / "source"
    directory.mkdir()
    fill(directory)
    (directory / "link").symlink_to("file")
    (directory / "private").write_text("private")
    (directory / "private").chmod(0o600)
    # rsync compares the times of all but files to the second only: theirs must be old to be set at all.
    for path in sorted(directory.rglob("*"), reverse=True):
        os.utime(path, ns=(1, 1_000_000_000_123_456_789), follow_symlinks=False)
    return directory


COPIERS: dict[str, list[str]] = {
    "cp": ["cp", "-a", "SOURCE", "TARGET"],
    "rsync": ["rsync", "-a", "SOURCE/", "TARGET"],
}


@pytest.mark.parametrize("kind", [".snapshots", ".branches"])
@pytest.mark.parametrize("copier", COPIERS)
def test_a_copy_starts_empty(root: Path, source: Path, copier: str, kind: str) -> None:
    tool(copier)
    target = root / kind / "copy"
    words = [word.replace("SOURCE", str(source)).replace("TARGET", str(target)) for word in COPIERS[copier]]
    run(*words)
    assert content_of(target) == content_of(source)
    assert attributes_of(target) == attributes_of(source)
    assert os.listdir(root / kind) == ["copy"]
    assert "source" in os.listdir(root)
    if kind == ".snapshots":
        with fails(errno.EROFS):
            (target / "file").write_text("changed")
        with fails(errno.EROFS):
            (target / "new").mkdir()
    else:
        (target / "file").write_text("changed")
        assert (source / "file").read_text() == "content"


def test_an_unpacked_archive_becomes_a_snapshot(root: Path, source: Path) -> None:
    tool("tar")
    run("tar", "cf", root / "archive.tar", "-C", source, ".")
    # tar makes the directories below its own: it is told the name as a member.
    run("tar", "cf", root / "named.tar", "-C", root, "--transform", "s,^source,unpacked,", "source")
    run("tar", "xpf", root / "named.tar", "-C", root / ".snapshots")
    assert content_of(root / ".snapshots" / "unpacked") == content_of(source)
    with fails(errno.EROFS):
        (root / ".snapshots" / "unpacked" / "file").unlink()


def test_mv_into_the_snapshots_copies_and_removes(root: Path, source: Path) -> None:
    expected = content_of(source)
    run("mv", source, root / ".snapshots" / "moved")
    assert content_of(root / ".snapshots" / "moved") == expected
    assert not source.exists()


def test_one_file_can_be_kept(root: Path) -> None:
    (root / "file").write_text("content")
    run("cp", "-p", root / "file", root / ".snapshots" / "kept")
    (root / "file").write_text("changed")
    assert (root / ".snapshots" / "kept").read_text() == "content"
    with fails(errno.EROFS):
        os.open(root / ".snapshots" / "kept", os.O_WRONLY)
    with fails(errno.EROFS):
        os.truncate(root / ".snapshots" / "kept", 0)
    with opened(root / ".snapshots" / "written", os.O_CREAT | os.O_EXCL | os.O_RDWR) as descriptor:
        os.write(descriptor, b"as long as it is open ")
        os.write(descriptor, b"it may be written")
    assert (root / ".snapshots" / "written").read_text() == "as long as it is open it may be written"
    with fails(errno.EROFS):
        os.open(root / ".snapshots" / "written", os.O_WRONLY)
    assert sorted(os.listdir(root / ".snapshots")) == ["kept", "written"]
    run("rm", root / ".snapshots" / "kept")
    assert os.listdir(root / ".snapshots") == ["written"]


def open_when_read(fifo: Path, reader: subprocess.Popen[bytes]) -> int:
    """The writing end of a fifo, once its reader waits in it."""
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO
            assert reader.poll() is None, "the reader ended before it came to the fifo"
            time.sleep(CLOCK_TICK_SECONDS)


def test_a_copied_snapshot_is_closed_to_others(root: Path, source: Path) -> None:
    """Only the copying process fills it; another one is refused even while the copy is under way."""
    os.mkfifo(source / "fifo")
    copy = subprocess.Popen(["cp", "-r", "--copy-contents", str(source), str(root / ".snapshots" / "copy")])
    try:
        descriptor = open_when_read(source / "fifo", copy)
        try:
            with fails(errno.EROFS):
                (root / ".snapshots" / "copy" / "foreign").mkdir()
            os.write(descriptor, b"from the fifo")
        finally:
            os.close(descriptor)
        assert copy.wait(TIMEOUT_SECONDS) == 0
    finally:
        if copy.poll() is None:
            copy.kill()
            copy.wait()
    assert (root / ".snapshots" / "copy" / "fifo").read_text() == "from the fifo"
    with fails(errno.EROFS):
        (root / ".snapshots" / "copy" / "foreign").mkdir()


# Verbs, by file and by command


def write_verb(root: Path, verb: str, text: str) -> None:
    with opened(root / ".heliosfs" / verb, os.O_WRONLY) as descriptor:
        os.write(descriptor, text.encode())


RESTORERS: dict[str, Callable[[Path, str], object]] = {
    "file": lambda root, name: write_verb(root, "restore", name),
    "echo": lambda root, name: run("sh", "-c", f"echo {name} > .heliosfs/restore", cwd=root),
    "command": lambda root, name: heliosfs("restore", root, name),
}


@pytest.mark.parametrize("how", RESTORERS)
def test_restore_rolls_the_tree_back(root: Path, how: str) -> None:
    before = fill(root)
    (root / ".snapshots" / "s").mkdir()
    (root / "file").write_text("changed, and longer")
    shutil.rmtree(root / "directory")
    (root / "new").mkdir()
    after = content_of(root)
    assert content_of(root) == after
    with opened(root / "file") as descriptor:
        assert os.pread(descriptor, 100, 0) == b"changed, and longer"
        RESTORERS[how](root, "s")
        assert content_of(root) == before
        assert os.pread(descriptor, 100, 0) == b"content"
    assert (root / "file").stat().st_size == 7
    heliosfs("undo", root)
    assert content_of(root) == after
    heliosfs("undo", root)
    assert content_of(root) == before


def test_restore_shows_at_once_in_every_way(root: Path) -> None:
    """Cached names, attributes, listings, pages and mappings: none may show the state before."""
    (root / "file").write_bytes(b"old" * 5_000)
    (root / "gone").write_text("gone")
    (root / "link").symlink_to("old-target")
    (root / "directory").mkdir()
    os.setxattr(root / "file", "user.name", b"old")
    (root / ".snapshots" / "s").mkdir()
    (root / "file").write_bytes(b"new!" * 7_000)
    (root / "gone").unlink()
    (root / "link").unlink()
    (root / "link").symlink_to("new-target")
    (root / "directory").rmdir()
    (root / "directory").write_text("a file now")
    os.setxattr(root / "file", "user.name", b"new")
    (root / "new").touch()
    for name in ("file", "link", "directory", "new"):
        (root / name).lstat()
    assert not (root / "gone").exists()
    os.listdir(root)
    with opened(root / "file") as descriptor, mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapping:
        assert mapping[:4] == b"new!"
        write_verb(root, "restore", "s")
        assert mapping[:6] == b"oldold"
        assert os.fstat(descriptor).st_size == 15_000
    assert (root / "file").read_bytes() == b"old" * 5_000
    assert (root / "gone").read_text() == "gone"
    assert os.readlink(root / "link") == "old-target"
    assert (root / "directory").is_dir()
    assert os.getxattr(root / "file", "user.name") == b"old"
    assert not (root / "new").exists()
    assert sorted(os.listdir(root)) == ["directory", "file", "gone", "link"]


def test_restoring_what_is_not_there(root: Path) -> None:
    (root / "file").write_text("content")
    with fails(errno.ENOENT):
        write_verb(root, "restore", "missing")
    complaint = heliosfs("restore", root, "missing", status=1)
    assert "missing" in complaint
    assert (root / "file").read_text() == "content"


def test_undo_by_file(root: Path) -> None:
    (root / "file").write_text("one")
    (root / ".snapshots" / "s").mkdir()
    (root / "file").write_text("two")
    write_verb(root, "restore", "s")
    assert (root / "file").read_text() == "one"
    with opened(root / ".heliosfs" / "undo", os.O_WRONLY) as descriptor:
        os.write(descriptor, b"\n")
    assert (root / "file").read_text() == "two"


def test_work_goes_on_after_a_restore(root: Path) -> None:
    fill(root)
    (root / ".snapshots" / "s").mkdir()
    for turn in range(10):
        (root / f"new-{turn}").write_text(str(turn))
        (root / "file").write_text(f"turn {turn}")
        shutil.rmtree(root / "directory")
        write_verb(root, "restore", "s")
        assert sorted(os.listdir(root)) == ["directory", "file"]
        assert (root / "file").read_text() == "content"
        assert (root / "directory" / "below" / "deep").read_text() == "deep content"


def test_a_branch_is_restored_alone(root: Path) -> None:
    fill(root)
    branch = root / ".branches" / "b"
    branch.mkdir()
    (branch / ".snapshots" / "s").mkdir()
    (branch / "file").write_text("changed in the branch")
    (root / "file").write_text("changed in the parent")
    write_verb(branch, "restore", "s")
    assert (branch / "file").read_text() == "content"
    assert (root / "file").read_text() == "changed in the parent"


def test_status_by_file_and_by_command(root: Path) -> None:
    fill(root)
    by_file = json.loads((root / ".heliosfs" / "status").read_text())
    assert isinstance(by_file, dict) and by_file
    by_command = json.loads(heliosfs("status", root / "directory", "--json"))
    assert by_file.keys() == by_command.keys()
    assert heliosfs("status", root)


def test_the_log_tells_every_operation(root: Path) -> None:
    (root / ".snapshots" / "first-name").mkdir()
    os.rename(root / ".snapshots" / "first-name", root / ".snapshots" / "second-name")
    (root / ".branches" / "branch-name").mkdir()
    write_verb(root, "restore", "second-name")
    (root / ".snapshots" / "second-name").rmdir()
    text = heliosfs("log", root)
    by_file = (root / ".heliosfs" / "log").read_text()
    for name in ("first-name", "second-name", "branch-name", "restore"):
        assert name in text
        assert name in by_file
    operations = json.loads(heliosfs("log", root, "--json"))
    assert len(operations if isinstance(operations, list) else operations["operations"]) >= 5


def prepare_difference(root: Path) -> None:
    (root / "kept").write_text("kept\n")
    (root / "edited").write_text("one\ntwo\nthree\n")
    (root / "removed").write_text("removed\n")
    (root / "directory").mkdir()
    (root / ".snapshots" / "a").mkdir()
    (root / "edited").write_text("one\n2\nthree\n")
    (root / "removed").unlink()
    (root / "directory" / "added").write_text("added\n")
    (root / ".snapshots" / "b").mkdir()
    (root / "after").write_text("after\n")


def test_changes_name_what_differs(root: Path) -> None:
    prepare_difference(root)
    for text in (
        (root / ".heliosfs" / "changes" / "a..b").read_text(),
        heliosfs("changes", root, "a", "b"),
    ):
        for name in ("edited", "removed", "directory/added"):
            assert name in text
        assert "kept" not in text
        assert "after" not in text
    assert "after" in (root / ".heliosfs" / "changes" / "b").read_text()
    assert "edited" not in (root / ".heliosfs" / "changes" / "b").read_text()
    assert "after" in heliosfs("changes", root, "b")
    with fails(errno.ENOENT):
        (root / ".heliosfs" / "changes" / "a..missing").read_text()


def test_diffs_can_be_applied(root: Path) -> None:
    tool("patch")
    prepare_difference(root)
    by_file = (root / ".heliosfs" / "diff" / "a..b").read_text()
    assert "-two\n+2\n" in by_file
    assert heliosfs("diff", root, "a", "b").strip() == by_file.strip()
    copy = root / "copy"
    shutil.copytree(root / ".snapshots" / "a", copy)
    run("patch", "-p1", "-E", cwd=copy, standard_input=by_file)
    assert content_of(copy) == content_of(root / ".snapshots" / "b")


def test_the_command_works_from_within(root: Path) -> None:
    fill(root)
    heliosfs("snapshot", "create", root / "directory" / "below", "by-command")
    assert os.listdir(root / ".snapshots") == ["by-command"]
    assert "by-command" in heliosfs("snapshot", "list", root)
    heliosfs("snapshot", "rename", root, "by-command", "renamed")
    assert os.listdir(root / ".snapshots") == ["renamed"]
    heliosfs("branch", "create", root, "fork", "--from", "renamed")
    assert content_of(root / ".branches" / "fork") == content_of(root)
    assert "fork" in heliosfs("branch", "list", root)
    heliosfs("branch", "delete", root, "fork")
    heliosfs("snapshot", "delete", root, "renamed")
    assert os.listdir(root / ".snapshots") == os.listdir(root / ".branches") == []
    heliosfs("snapshot", "delete", root, "renamed", status=1)
    heliosfs("sync", root)
    assert heliosfs("stats", root)


def test_the_content_digest_is_an_attribute(root: Path) -> None:
    (root / "one").write_bytes(b"same content" * 1_000)
    (root / "two").write_bytes(b"same content" * 1_000)
    (root / "three").write_bytes(b"other content" * 1_000)
    digests = [os.getxattr(root / name, "user.heliosfs.digest") for name in ("one", "two", "three")]
    assert digests[0] == digests[1] != digests[2]
    with fails(errno.EPERM, errno.EACCES, errno.EROFS, errno.EOPNOTSUPP):
        os.setxattr(root / "one", "user.heliosfs.digest", b"forged")
    assert os.getxattr(root / "one", "user.heliosfs.digest") == digests[0]


# Rights


@root_only
def test_whoever_may_create_may_snapshot_and_fork(root: Path) -> None:
    root.chmod(0o755)
    with user():
        for kind in (".snapshots", ".branches"):
            with fails(errno.EACCES, errno.EPERM):
                (root / kind / "refused").mkdir()
    root.chmod(0o777)
    with user():
        for kind in (".snapshots", ".branches"):
            (root / kind / "allowed").mkdir()
            os.rename(root / kind / "allowed", root / kind / "renamed")
    for kind in (".snapshots", ".branches"):
        status = (root / kind).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (root.stat().st_uid, 0o777)
    root.chmod(0o755)
    with user():
        for kind in (".snapshots", ".branches"):
            with fails(errno.EACCES, errno.EPERM):
                (root / kind / "renamed").rmdir()
            with fails(errno.EACCES, errno.EPERM):
                os.rename(root / kind / "renamed", root / kind / "again")
    assert os.listdir(root / ".snapshots") == os.listdir(root / ".branches") == ["renamed"]


@root_only
def test_only_the_owner_rolls_back(root: Path) -> None:
    root.chmod(0o777)
    (root / "file").write_text("one")
    (root / ".snapshots" / "s").mkdir()
    (root / "file").write_text("two")
    for verb in ("restore", "undo", "merge"):
        status = (root / ".heliosfs" / verb).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o200, root.stat().st_uid)
        with user(), fails(errno.EACCES, errno.EPERM):
            os.open(root / ".heliosfs" / verb, os.O_WRONLY)
    with user(), pytest.raises(OSError) as refused:
        call(root, "restore", state="s")
    assert refused.value.errno in (errno.EACCES, errno.EPERM)
    assert (root / "file").read_text() == "two"
    os.chown(root, NOBODY, NOBODY)
    with user():
        write_verb(root, "restore", "s")
    assert (root / "file").read_text() == "one"


def call(root: Path, verb: str, **arguments: object) -> object:
    with opened(root / ".heliosfs" / "call", os.O_RDWR) as descriptor:
        os.write(descriptor, json.dumps({"verb": verb, "arguments": arguments}).encode())
        answer = json.loads(os.read(descriptor, 1 << 20))
    if not answer["ok"]:
        raise OSError(answer["errno"], answer["error"])
    return answer["result"]


@root_only
def test_snapshots_keep_their_files_owners(root: Path) -> None:
    root.chmod(0o777)
    (root / "secret").write_text("secret")
    (root / "secret").chmod(0o600)
    with user():
        (root / "mine").write_text("mine")
        (root / ".snapshots" / "s").mkdir()
        assert (root / ".snapshots" / "s" / "mine").read_text() == "mine"
        with fails(errno.EACCES):
            (root / ".snapshots" / "s" / "secret").read_text()
        (root / ".branches" / "b").mkdir()
        with fails(errno.EACCES):
            (root / ".branches" / "b" / "secret").read_text()
    assert (root / ".snapshots" / "s" / "mine").stat().st_uid == NOBODY


# A read-only mount and a mounted branch


def test_a_read_only_mount_refuses_changes(volume_mount: MountedVolume) -> None:
    before = fill(volume_mount.path)
    (volume_mount.path / ".snapshots" / "s").mkdir()
    volume_mount.unmount()
    volume_mount.mount("--read-only")
    assert content_of(volume_mount.path) == before
    assert content_of(volume_mount.path / ".snapshots" / "s") == before
    with fails(errno.EROFS):
        (volume_mount.path / "file").write_text("changed")
    with fails(errno.EROFS):
        (volume_mount.path / ".snapshots" / "t").mkdir()
    volume_mount.remount()
    (volume_mount.path / "file").write_text("changed")


def test_a_branch_is_mounted_as_the_root(volume_mount: MountedVolume) -> None:
    fill(volume_mount.path)
    (volume_mount.path / ".branches" / "b").mkdir()
    (volume_mount.path / ".branches" / "b" / "file").write_text("of the branch")
    volume_mount.unmount()
    volume_mount.mount("--branch", "b")
    assert (volume_mount.path / "file").read_text() == "of the branch"
    (volume_mount.path / "file").write_text("changed")
    (volume_mount.path / ".snapshots" / "s").mkdir()
    volume_mount.remount()
    assert (volume_mount.path / "file").read_text() == "content"
    assert (volume_mount.path / ".branches" / "b" / "file").read_text() == "changed"
    assert os.listdir(volume_mount.path / ".branches" / "b" / ".snapshots") == ["s"]


def test_everything_lasts_over_a_remount(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    before = fill(root)
    (root / ".snapshots" / "s").mkdir()
    (root / ".branches" / "b").mkdir()
    (root / ".branches" / "b" / "file").write_text("of the branch")
    (root / ".branches" / "b" / ".snapshots" / "t").mkdir()
    (root / "file").write_text("changed")
    for _ in range(2):
        volume_mount.remount()
        assert (root / "file").read_text() == "changed"
        assert content_of(root / ".snapshots" / "s") == before
        assert (root / ".branches" / "b" / ".snapshots" / "t" / "file").read_text() == "of the branch"
        with fails(errno.EROFS):
            (root / ".snapshots" / "s" / "file").write_text("changed")
    heliosfs("restore", root, "s")
    assert content_of(root) == before


def test_a_second_mount_says_who_holds_the_store(volume_mount: MountedVolume) -> None:
    elsewhere = volume_mount.base / "elsewhere"
    elsewhere.mkdir()
    complaint = heliosfs("mount", volume_mount.store, elsewhere, status=1)
    assert str(volume_mount.pid) in complaint
    assert str(volume_mount.path) in complaint
    heliosfs("fsck", volume_mount.store, status=1)


@pytest.fixture(scope="module")
def unwritable() -> Iterator[list[Path]]:
    """The trees of a mount that is read-only: branches and snapshots."""
    with mounted() as volume:
        branch = volume.path / ".branches" / "b"
        fill(volume.path)
        (volume.path / "empty").mkdir()
        os.setxattr(volume.path / "file", "user.kept", b"value")
        branch.mkdir()
        for tree in (volume.path, branch):
            (tree / ".snapshots" / "s").mkdir()
        volume.unmount()
        volume.mount("--read-only")
        yield [volume.path, branch, volume.path / ".snapshots" / "s", branch / ".snapshots" / "s"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_read_only_mount_refuses_every_change(unwritable: list[Path], change: str) -> None:
    for tree in unwritable:
        with fails(errno.EROFS):
            CHANGES[change](tree)

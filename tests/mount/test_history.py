"""Going back on a real mount: some paths, under live processes; the log."""

from __future__ import annotations

import errno
import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .support import NOBODY, fails, opened, user, wait_until
from .volumes import MountedVolume, heliosfs


@pytest.fixture
def ours(volume: MountedVolume) -> Path:
    """The mount's root with some files and a snapshot `s` of them."""
    for name in os.listdir(volume.path / ".snapshots"):
        os.rmdir(volume.path / ".snapshots" / name)
    (volume.path / "d").mkdir(exist_ok=True)
    for name in ("f", "d/x", "d/y"):
        (volume.path / name).write_text(f"{name} before")
    (volume.path / ".snapshots" / "s").mkdir()
    return volume.path


def test_live_processes_see_restored_paths(ours: Path) -> None:
    with open(ours / "f", "r+b") as held, mmap.mmap(held.fileno(), 0) as mapped:
        mapped[:1] = b"F"
        (ours / "d" / "x").unlink()
        (ours / "d" / "new").write_text("new")
        (ours / "d" / "y").write_text("after")
        assert sorted(os.listdir(ours / "d")) == ["new", "y"]
        dry = json.loads(heliosfs("restore", ours, "s", "--dry-run", "--json"))
        assert [each["change"] + each["path"] for each in dry["changes"]] == ["Dd/new", "Ad/x", "Md/y", "Mf"]
        assert (ours / "f").read_text() == "F before"
        shown = heliosfs("restore", ours, "s", "--", ours / "d" / "x", "f")
        assert shown == "A d/x\nM f\n"
        assert mapped[:] == b"f before" and (ours / "f").read_text() == "f before"
        assert (ours / "d" / "x").read_text() == "d/x before"
        assert sorted(os.listdir(ours / "d")) == ["new", "x", "y"] and (ours / "d" / "y").read_text() == "after"
    heliosfs("undo", ours)
    assert sorted(os.listdir(ours / "d")) == ["new", "y"] and (ours / "f").read_text() == "F before"


REMOVALS: dict[str, Callable[[Path], object]] = {
    "rmdir": lambda directory: directory.rmdir(),
    "rename over it": lambda directory: (directory.parent / "other").rename(directory),
}


@pytest.mark.parametrize("how", REMOVALS)
def test_a_removed_directory_comes_back_although_somebody_holds_it(ours: Path, how: str) -> None:
    """The kernel takes an inode that was removed for dead: what comes back has to be another one for it."""
    names = sorted(os.listdir(ours / "d"))
    (ours / "other").mkdir(exist_ok=True)
    for _ in range(2):
        with opened(ours / "d", os.O_RDONLY | os.O_DIRECTORY) as held, opened(ours / "d" / "x") as file:
            for path in (ours / "d").iterdir():
                path.unlink()
            REMOVALS[how](ours / "d")
            assert os.listdir(held) == []
            heliosfs("restore", ours, "s")
            assert sorted(os.listdir(ours / "d")) == names
            assert (ours / "d" / "x").read_text() == "d/x before" == os.pread(file, 100, 0).decode()
            (ours / "d" / "made").touch()
            # Whoever held the dead one has to open it anew.
            with fails(errno.EIO):
                os.listdir(held)
        assert sorted(os.listdir(ours / "d")) == sorted({*names, "made"})
        (ours / "other").mkdir(exist_ok=True)


def test_bad_paths_are_named_and_change_nothing(ours: Path) -> None:
    before = len(json.loads(heliosfs("log", ours, "--json")))
    for path, said in (
        ("../x", "../x"), ("missing", "there is no missing"), ("/etc/passwd", "/etc/passwd is outside"),
        (".snapshots/s/f", "no file of the tree"),
    ):  # fmt: skip
        assert said in heliosfs("restore", ours, "s", "--", path, status=1)
    assert "no state 'unknown'" in heliosfs("restore", ours, "unknown", "--", "f", status=1)
    assert "or before" in heliosfs("restore", ours, "1999-01-01", "--", "f", status=1)
    with user(NOBODY), fails(1, 13):
        (ours / ".heliosfs" / "restore").write_text("s")
    assert len(json.loads(heliosfs("log", ours, "--json"))) == before


def test_the_log_verifies_and_tells_before_and_after(ours: Path) -> None:
    heliosfs("restore", ours, "s")
    newest = json.loads(heliosfs("log", ours, "--json", "-n", "1"))[0]
    assert newest["verb"] == "restore"
    [change] = newest["changes"]
    assert change["kind"] == "branch" and change["before"]["state"] and change["after"]["state"]
    result = json.loads(heliosfs("log", ours, "--verify", "--json"))
    assert result["problems"] == [] and result["checked"] >= newest["number"]
    assert heliosfs("log", ours, "--verify") == ""


def test_notes_and_holds(ours: Path) -> None:
    heliosfs("snapshot", "create", ours, "noted", "-m", "before the move", "--set", "task=7", "--set", "by=agent")
    root = ours / ".snapshots" / "noted"
    assert os.getxattr(root, "user.heliosfs.note.task") == b"7"
    assert os.listxattr(root) == ["user.heliosfs.note.by", "user.heliosfs.note.task"]
    os.setxattr(root, "user.heliosfs.note.task", b"8")
    os.removexattr(root, "user.heliosfs.note.by")
    shown = json.loads(heliosfs("snapshot", "show", ours, "noted", "--json"))
    assert shown["notes"] == {"task": "8"} and shown["message"] == "before the move"
    assert "task=8  before the move" in heliosfs("snapshot", "list", ours)
    for where, names in (("task=8", ["noted"]), ("task=7", [])):
        listed = json.loads(heliosfs("snapshot", "list", ours, "--where", where, "--json"))
        assert [each["name"] for each in listed] == names
    with fails(errno.EPERM):
        os.setxattr(ours, "user.heliosfs.note.task", b"8")
    with fails(errno.EPERM):
        os.setxattr(root / "f", "user.heliosfs.note.task", b"8")
    with fails(errno.ENODATA):
        os.getxattr(root, "user.heliosfs.note.by")
    with user(NOBODY), fails(errno.EACCES):
        os.setxattr(root, "user.heliosfs.note.task", b"9")
    heliosfs("snapshot", "hold", ours, "noted")
    assert "held" in heliosfs("snapshot", "delete", ours, "noted", status=1)
    with fails(errno.EBUSY):
        os.rmdir(root)
    heliosfs("snapshot", "release", ours, "noted")
    os.rmdir(root)


def test_settings(ours: Path) -> None:
    assert heliosfs("config", ours, "auto.interval", "1h") == ""
    assert heliosfs("config", ours, "auto.interval") == "1h\n"
    assert "no duration" in heliosfs("config", ours, "auto.interval", "soon", status=1)
    assert "no setting 'x'" in heliosfs("config", ours, "x", status=1)
    assert heliosfs("config", ours, "auto.interval", "default") == ""
    names = [each["name"] for each in json.loads(heliosfs("config", ours, "--json"))]
    assert "auto.interval" in names and "auto.keep.days" in names


def test_states_that_are_kept_by_themselves(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    heliosfs("config", root, "auto.interval", "1s")
    auto = root / ".snapshots" / ".auto"
    (root / "f").write_text("first")
    wait_until(lambda: [name for name in os.listdir(auto) if (auto / name / "f").exists()])
    kept = next(name for name in os.listdir(auto) if (auto / name / "f").exists())
    (root / "f").write_text("second")
    assert (auto / kept / "f").read_text() == "first"
    assert os.listdir(root / ".snapshots") == [] and heliosfs("snapshot", "list", root) == ""
    assert kept in heliosfs("snapshot", "list", root, "--auto")
    with fails(errno.EROFS):
        (auto / kept / "f").write_text("x")
    for act in (
        lambda: os.mkdir(auto), lambda: os.mkdir(auto / "x"), lambda: os.rmdir(auto),
        lambda: os.rename(auto / kept, auto / "x"), lambda: os.rename(auto, root / ".snapshots" / "x"),
    ):  # fmt: skip
        with pytest.raises(OSError):
            act()
    heliosfs("restore", root, kept, "--", "f")
    assert (root / "f").read_text() == "first"
    volume_mount.remount()
    assert (auto / kept / "f").read_text() == "first"
    os.rmdir(auto / kept)
    assert not (auto / kept).exists()


def test_the_lineage_is_drawn(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    (root / "f").write_bytes(os.urandom(10_000))
    (root / ".snapshots" / "one").mkdir()
    heliosfs("branch", "create", root, "child", "--from", "one")
    (root / ".branches" / "child" / "g").write_bytes(os.urandom(5_000))
    (root / "f").write_bytes(os.urandom(20_000))
    (root / ".branches" / "live").mkdir()
    names = [line.partition(" 20")[0].rstrip() for line in heliosfs("tree", root).splitlines()[1:]]
    assert names == ["main/", "|-- one", "|   `-- child/", "`-- live/"]
    found = json.loads(heliosfs("tree", root, "--json"))
    one, child = found["snapshots"][0], found["branches"][0]
    assert child["own_bytes"] >= 5_000 and child["shared_bytes"] >= 10_000 and one["own_bytes"] == 0
    assert one["shared_bytes"] == child["shared_bytes"] and found["shared_bytes"] >= 20_000
    heliosfs("snapshot", "delete", root, "one")
    assert [each["from"] for each in json.loads(heliosfs("tree", root, "--json"))["branches"]] == [None, None]

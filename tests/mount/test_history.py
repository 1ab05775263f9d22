"""Going back on a real mount: some paths, under live processes; the log."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

import pytest

from .support import NOBODY, fails, user
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

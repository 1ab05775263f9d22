"""Merging on a real mount: live processes see it at once, by command and by plain file calls alike."""

from __future__ import annotations

import json
import mmap
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from .support import NOBODY, fails, user
from .volumes import MountedVolume, heliosfs

TEXT = "".join(f"line {number}\n" for number in range(20))


@pytest.fixture
def child(volume: MountedVolume) -> Path:
    """A tree with a file in it and a branch of that; `ours` is two directories up."""
    for each in volume.path.iterdir():
        each.unlink()
    (volume.path / "f").write_text(TEXT)
    (volume.path / "g").write_text(TEXT)
    (volume.path / "gone").write_text(TEXT)
    for branch in os.listdir(volume.path / ".branches"):
        os.rmdir(volume.path / ".branches" / branch)
    (volume.path / ".branches" / "child").mkdir()
    return volume.path / ".branches" / "child"


def merged(volume: MountedVolume, *arguments: str, status: int = 0) -> dict[str, Any]:
    output = heliosfs("merge", volume.path, *arguments, "--json", status=status)
    found: dict[str, Any] = json.loads(output)
    return found


def test_warm_caches_and_open_files_see_a_merge(volume: MountedVolume, child: Path) -> None:
    ours = volume.path
    (child / "f").write_text(TEXT.replace("line 3\n", "three\n"))
    (child / "new").write_text("new")
    (child / "gone").unlink()
    with open(ours / "f", "r+b") as held, mmap.mmap(held.fileno(), 0) as mapped:
        # What the kernel knows by now is stale afterwards; what only a mapping has is part of what is merged.
        mapped[-8:-1] = b"LINE 19"
        assert not (ours / "new").exists() and (ours / "gone").read_text() == TEXT
        assert sorted(os.listdir(ours)) == ["f", "g", "gone"]
        report = merged(volume, "child", "-m", "a message")
        assert [each["change"] + each["path"] for each in report["changes"]] == ["Mf", "Dgone", "Anew"]
        after = TEXT.replace("line 3\n", "three\n").replace("line 19", "LINE 19")
        assert (ours / "f").read_text() == after
        held.seek(0)
        assert held.read() == after.encode() and mapped[: len(after) - 1] == after.encode()[:-1]
        assert sorted(os.listdir(ours)) == ["f", "g", "new"] and not (ours / "gone").exists()
        assert (ours / "new").read_text() == "new"
    assert "merge child: a message" in (ours / ".heliosfs" / "log").read_text()
    heliosfs("undo", ours)
    assert sorted(os.listdir(ours)) == ["f", "g", "gone"]
    assert (ours / "f").read_text() == TEXT.replace("line 19", "LINE 19")


def test_conflicts_are_ordinary_files_until_they_are_settled(volume: MountedVolume, child: Path) -> None:
    ours = volume.path
    for tree, text in ((ours, "ours"), (child, "theirs")):
        (tree / "f").write_text(TEXT + text)
        (tree / "g").write_text(text + TEXT)
    before = (ours / "f").stat().st_ctime_ns
    dry = merged(volume, "child", "--dry-run", status=1)
    assert [each["path"] for each in dry["conflicts"]] == ["f", "g"]
    assert json.loads(heliosfs("conflicts", ours, "--json")) == []
    report = merged(volume, "child", status=1)
    found = json.loads(heliosfs("conflicts", ours, "--json", status=None))
    assert found == report["conflicts"] == json.loads((ours / ".heliosfs" / "status").read_text())["last"]["conflicts"]
    assert (ours / "f").read_text() == TEXT + "ours" and (ours / "f").stat().st_ctime_ns == before
    for conflict, (base, theirs) in zip(found, ((TEXT, TEXT + "theirs"), (TEXT, "theirs" + TEXT)), strict=True):
        assert (ours / conflict["base_at"]).read_text() == base
        assert (ours / conflict["theirs_at"]).read_text() == theirs
    assert "open conflicts" in heliosfs("merge", ours, "child", status=1)
    heliosfs("resolve", ours, "./f", "--theirs")
    assert (ours / "f").read_text() == TEXT + "theirs"
    (ours / "g").write_text("both")
    heliosfs("resolve", ours, ours / "g", "--merged")
    assert heliosfs("conflicts", ours) == ""
    assert not (ours / found[0]["theirs_at"]).exists() and os.listdir(ours / ".snapshots") == []
    heliosfs("merge", ours, ".", "--into", "child")
    assert (child / "f").read_text() == TEXT + "theirs" and (child / "g").read_text() == "both"


def test_paths_are_given_in_any_way(volume: MountedVolume, child: Path) -> None:
    for tree in (volume.path, child):
        for name in "xyz":
            (tree / name).write_text(str(tree))
    heliosfs("merge", volume.path, "child", "--strategy", "theirs", "--", "./z")
    assert (volume.path / "z").read_text() == str(child)
    merged(volume, "child", status=1)
    for path in (volume.path / "x", ".//y"):
        heliosfs("resolve", volume.path, path, "--theirs")
    assert heliosfs("conflicts", volume.path) == "" and (volume.path / "x").read_text() == str(child)
    assert "outside of the tree" in heliosfs("resolve", volume.path, volume.path.parent / "x", "--ours", status=1)


def test_by_plain_file_calls(volume: MountedVolume, child: Path) -> None:
    verb = volume.path / ".heliosfs" / "merge"
    (child / "new").write_text("new")
    with user(NOBODY), fails(1, 13):
        verb.write_text("child")
    with fails(2):
        verb.write_text("nobody")
    verb.write_text("child")
    assert (volume.path / "new").read_text() == "new"


def test_wrong_usage(volume: MountedVolume, child: Path) -> None:
    for ways in ([], ["--ours", "--theirs"]):
        assert "say how" in heliosfs("resolve", volume.path, "f", *ways, status=2)
    assert "no conflict" in heliosfs("resolve", volume.path, "f", "--ours", status=1)
    assert "no branch named" in heliosfs("merge", volume.path, "nobody", status=1)
    assert "neither branch has" in heliosfs("merge", volume.path, "child", "--", "nowhere", status=1)


def test_some_paths_a_strategy_and_a_kill(volume: MountedVolume, child: Path) -> None:
    ours = volume.path
    for name in ("f", "g"):
        (child / name).write_text(TEXT.replace("line 3\n", "theirs\n"))
        (ours / name).write_text(TEXT.replace("line 3\n", "ours\n"))
    (child / "new").write_text("new")
    assert "neither branch has 'missing'" in heliosfs("merge", ours, "child", "--", "missing", status=1)
    assert "is outside" in heliosfs("merge", ours, "child", "--", "/etc", status=1)
    dry = merged(volume, "child", "--dry-run", status=1)
    assert [each["path"] for each in dry["conflicts"]] == ["f", "g"] and not (ours / "new").exists()
    words = ("merge", ours, "child", "--strategy", "theirs", "--json", "--", ours / "f")
    report = json.loads(heliosfs(*words))
    assert [each["path"] for each in report["decided"]] == ["f"] and report["conflicts"] == []
    assert "theirs\n" in (ours / "f").read_text() and "ours\n" in (ours / "g").read_text()
    volume.kill()
    volume.mount()
    assert "theirs\n" in (ours / "f").read_text() and not (ours / "new").exists()
    assert merged(volume, "child", "--strategy", "ours")["conflicts"] == []
    assert "ours\n" in (ours / "g").read_text() and (ours / "new").read_text() == "new"
    assert json.loads(heliosfs("conflicts", ours, "--json")) == []


def test_what_is_written_during_a_merge_is_neither_lost_nor_torn(volume: MountedVolume, child: Path) -> None:
    ours = volume.path
    for number in range(200):
        (child / f"theirs{number}").write_text(f"theirs {number}\n")
    written = 0
    done = threading.Event()

    def write() -> None:
        nonlocal written
        while not done.is_set() or written < 20:
            (ours / f"ours{written}").write_text(f"ours {written}\n" * 500)
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        report = merged(volume, "child")
    finally:
        done.set()
        writer.join()
    assert report["conflicts"] == []
    assert {each["path"] for each in report["changes"]} == {f"theirs{number}" for number in range(200)}
    for number in range(200):
        assert (ours / f"theirs{number}").read_text() == f"theirs {number}\n"
    for number in range(written):
        assert (ours / f"ours{number}").read_text() == f"ours {number}\n" * 500

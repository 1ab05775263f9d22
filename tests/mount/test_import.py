"""heliosfs import: everything is kept, it is one operation, and what is wrong is named and changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .support import NOBODY, facts, mount_only, user, wait_until
from .volumes import REPOSITORY, MountedVolume, heliosfs

pytestmark = mount_only

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def test_a_directory(volume: MountedVolume, tree: Path, source: Path) -> None:
    before = sorted(os.listdir(tree))
    assert not (tree / "new").exists()
    result = json.loads(heliosfs("import", source, tree / "new", "--json"))
    assert result["files"] == len(list(source.rglob("*")))
    assert facts(tree / "new") == facts(source)
    made, given = (tree / "new").stat(), source.stat()
    assert (made.st_mode, made.st_mtime_ns, made.st_uid) == (given.st_mode, given.st_mtime_ns, given.st_uid)
    small, linked = tree / "new" / "d" / "small", tree / "new" / "d" / "deep" / "linked"
    assert small.stat().st_ino == linked.stat().st_ino
    assert (tree / "new" / "sparse").stat().st_blocks <= 4096
    (tree / "new" / "d" / "more").write_text("goes on")
    assert (tree / "new" / "d").stat().st_nlink == 3
    heliosfs("undo", tree)
    assert sorted(os.listdir(tree)) == before


def test_into_a_directory_that_has_something(tree: Path, source: Path) -> None:
    (tree / "mine").write_text("mine")
    assert not (tree / "d").exists() and os.listdir(tree) == ["mine"]
    heliosfs("import", source, tree)
    assert (tree / "d" / "small").read_text() == "small" and (tree / "mine").read_text() == "mine"
    assert sorted(os.listdir(tree)) == sorted([*os.listdir(source), "mine"])
    assert "exists already" in heliosfs("import", source, tree, status=1)


@pytest.mark.parametrize("compression", ["", "z"])
def test_a_tar_file(tree: Path, source: Path, compression: str) -> None:
    archive = source.parent / "archive.tar"
    words = ["tar", f"-c{compression}f", archive, "--format=pax", "--xattrs", "-S", "-C", source, "."]
    subprocess.run(words, check=True)
    heliosfs("import", archive, tree / "new")
    assert facts(tree / "new") == facts(source)
    assert (tree / "new" / "sparse").stat().st_blocks <= 4096


def test_what_is_wrong_is_named(volume: MountedVolume, tree: Path, source: Path) -> None:
    operations = len(json.loads(heliosfs("log", tree, "--json")))
    (source.parent / "text").write_text("no archive")
    assert "is no tar file" in heliosfs("import", source.parent / "text", tree / "new", status=1)
    (tree / "d").mkdir()
    assert "d exists already" in heliosfs("import", source, tree, status=1)
    assert "nothere" in heliosfs("import", source / "nothere", tree, status=1)
    assert "is not in a HeliosFS mount" in heliosfs("import", source, source.parent / "outside", status=1)
    (source / "text").write_text("no tar file at all" * 100)
    assert "tar file" in heliosfs("import", source / "text", tree / "new", status=1)
    assert "the mount itself" in heliosfs("import", volume.path, tree / "new", status=1)
    subprocess.run(["tar", "-cf", source / "bad.tar", "-P", "--transform", "s,^,../,", "text"], cwd=source, check=True)
    assert "leads out of it" in heliosfs("import", source / "bad.tar", tree / "new", status=1)
    subprocess.run(["tar", "-cf", source / "link.tar", "f", "g"], cwd=linked_pair(source), check=True)
    subprocess.run(["tar", "-f", source / "link.tar", "--delete", "f"], check=True)
    assert "not in the tar file" in heliosfs("import", source / "link.tar", tree / "new", status=1)
    (source / "link.tar").write_bytes((source / "bad.tar").read_bytes()[:700])
    assert "tar file" in heliosfs("import", source / "link.tar", tree / "new", status=1)
    assert os.listdir(tree) == ["d"] and os.listdir(tree / "d") == []
    assert len(json.loads(heliosfs("log", tree, "--json"))) == operations


def linked_pair(source: Path) -> Path:
    pair = source.parent / "pair"
    pair.mkdir()
    (pair / "f").write_text("x")
    os.link(pair / "f", pair / "g")
    return pair


def test_a_tar_file_that_was_appended_to(tree: Path, tmp_path: Path) -> None:
    """The last entry of a name counts, also where the first one has other names."""
    archive = tmp_path / "archive.tar"
    pair = linked_pair(tmp_path / "source")
    subprocess.run(["tar", "-cf", archive, "f", "g"], cwd=pair, check=True)
    (pair / "f").unlink()
    (pair / "f").write_text("later")
    subprocess.run(["tar", "-rf", archive, "f"], cwd=pair, check=True)
    with open(archive, "rb") as file:
        result = subprocess.run(
            [sys.executable, "-m", "heliosfs", "import", "-", tree / "new"], stdin=file, env=ENVIRONMENT,
            capture_output=True, check=False,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tree / "new" / "f").read_text() == "later" and (tree / "new" / "g").read_text() == "x"
    assert (tree / "new" / "g").stat().st_nlink == 1


def test_it_ends_with_who_asked(volume: MountedVolume, tree: Path, tmp_path: Path) -> None:
    """A command that is killed imports nothing."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    words = [sys.executable, "-m", "heliosfs", "import", fifo, tree / "new"]
    (tmp_path / "f").write_bytes(os.urandom(1000))
    assert not (tree / "new").exists()
    archive = subprocess.run(["tar", "-c", "f"], cwd=tmp_path, capture_output=True, check=True).stdout
    with subprocess.Popen(words, env=ENVIRONMENT) as command, open(fifo, "wb") as file:
        file.write(archive[:1024])
        file.flush()
        wait_until(lambda: (tree / "new").exists())
        command.kill()
    wait_until(lambda: not (tree / "new").exists())


@pytest.mark.parametrize("begun", [True, False])
def test_it_ends_with_an_interrupt(volume: MountedVolume, tree: Path, tmp_path: Path, begun: bool) -> None:
    """Ctrl-C ends it, also while the source does not go on, and when the command ends nothing is left."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "f").write_bytes(os.urandom(1000))
    archive = subprocess.run(["tar", "-c", "f"], cwd=tmp_path, capture_output=True, check=True).stdout
    words = [sys.executable, "-m", "heliosfs", "import", fifo, tree / "new"]
    before = heliosfs("log", tree)
    command = subprocess.Popen(
        words, env=ENVIRONMENT, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    with command, open(fifo, "wb") as file:
        file.write(archive[:1024] if begun else b"")
        file.flush()
        wait_until(lambda: (tree / "new").exists())
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=60)
    assert command.returncode == 130
    assert b"interrupted: nothing was imported" in errors
    assert not (tree / "new").exists()
    assert heliosfs("log", tree) == before


def test_it_is_for_whoever_mounted(volume: MountedVolume, tree: Path) -> None:
    os.chown(tree, NOBODY, NOBODY)
    with user(NOBODY), pytest.raises(PermissionError):
        volume.call("import", descriptor=0, path=".")

"""export to a tar file: what import makes of it is the same tree, and other tools read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .support import facts, mount_only
from .volumes import REPOSITORY, MountedVolume, heliosfs

pytestmark = mount_only

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def filled(tree: Path, source: Path) -> Path:
    """One of everything in a tree, as a snapshot `s`, with what only a tar file makes difficult."""
    odd = source / os.fsdecode(b"\xff no \xe4 utf-8\nname")
    odd.write_bytes(b"odd")
    os.setxattr(odd, "user.binary", b"\0\xff\n")
    os.symlink(os.fsdecode(b"\xfe nowhere"), source / "odd link")
    os.link(odd, source / "d" / "an odd link")
    (source / ("long" * 60)).write_text("a long name")
    os.utime(source / "link", ns=(1, -1_500_000_001), follow_symlinks=False)
    with open(source / "all holes", "wb") as file:
        file.truncate(1 << 20)
    with open(source / "sparse", "r+b") as file:
        file.seek(3_000_000)
        file.write(b"x" * 5_000)
    heliosfs("import", source, tree / "in")
    return tree / "in"


@pytest.mark.parametrize("name", ["out.tar", "out.tgz", "out.tar.xz"])
def test_import_of_an_export_is_the_same_tree(
    volume: MountedVolume, tree: Path, filled: Path, source: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    result = json.loads(heliosfs("export", tree, "now", target, "--json"))
    assert result["files"] == len(list(volume.path.rglob("*")))
    heliosfs("import", target, tree / "back")
    back = tree / "back" / filled.relative_to(volume.path)
    assert facts(back) == facts(source) == facts(filled)
    numbers = {os.stat(back / each).st_ino for each in ("d/small", "d/deep/linked")}
    assert len(numbers) == 1
    for each in ("sparse", "all holes"):
        assert os.stat(back / each).st_blocks == os.stat(filled / each).st_blocks
    assert os.stat(back / "sparse").st_blocks <= 64
    assert "exists; nothing was exported" in heliosfs("export", tree, "now", target, status=1)


def test_tar_reads_it(volume: MountedVolume, tree: Path, filled: Path, source: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "heliosfs", "export", str(tree), "now", "-"]
    archive = subprocess.run(words, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True).stdout
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-x", "--xattrs", "--xattrs-include=*", "-C", out], input=archive, check=True)
    out /= filled.relative_to(volume.path)
    assert facts(out) == facts(source)
    assert os.stat(out / "sparse").st_blocks <= 4096


def test_what_cannot_be_exported(volume: MountedVolume, tree: Path, tmp_path: Path) -> None:
    (tree / "f").write_text("f")
    said = heliosfs("export", tree, "nosuch", tmp_path / "x.tar", status=1)
    assert "there is no state 'nosuch'" in said and not (tmp_path / "x.tar").exists()
    assert "is in the mount itself" in heliosfs("export", tree, "now", tree / "x.tar", status=1)
    assert "make it first" in heliosfs("export", tree, "now", tmp_path / "no" / "x.tar", status=1)
    assert "standard output" in heliosfs("export", tree, "now", "-", "--json", status=1)
    (tmp_path / "d.tar").mkdir()
    heliosfs("export", tree, "now", tmp_path / "d.tar")
    assert (tmp_path / "d.tar" / tree.name / "f").read_text() == "f"
    os.mknod(tree / "socket", 0o140644)
    said = subprocess.run(
        [sys.executable, "-m", "heliosfs", "export", str(tree), "now", str(tmp_path / "s.tar")],
        env=ENVIRONMENT, capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    assert "socket is a socket" in said
    os.unlink(tree / "socket")


@pytest.mark.parametrize("to", ["closed pipe", "/dev/full"])
def test_what_cannot_be_written_is_told_once(tree: Path, to: str) -> None:
    (tree / "large").write_bytes(os.urandom(200_000))
    words = [sys.executable, "-m", "heliosfs", "export", str(tree), "now", "-"]
    reader, writer = os.pipe()
    os.close(reader)
    if to != "closed pipe":
        os.dup2(full := os.open(to, os.O_WRONLY), writer)
        os.close(full)
    try:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, env=environment, check=False)
    finally:
        os.close(writer)
    assert done.returncode == 1
    assert done.stderr == (b"" if to == "closed pipe" else b"heliosfs: standard output: No space left on device\n")

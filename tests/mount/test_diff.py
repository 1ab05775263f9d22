"""diff and changes as people and programs use them: by command and as files; and what is wrong is named."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from .support import NOBODY, facts, fails, mount_only, tool, user
from .volumes import MountedVolume, heliosfs

pytestmark = mount_only

ODD = "a\nb\t\"c\x01"
LINES = [f"line {number}\n" for number in range(30)]


@pytest.fixture(scope="module")
def changed(volume: MountedVolume) -> Path:
    """A tree with a snapshot `s` and one of every change since."""
    root = volume.path
    for name in ("f", "moved", "gone", ODD, "program", "typed"):
        (root / name).write_text("".join([name.encode("unicode_escape").decode() + "\n", *LINES]))
    (root / "binary").write_bytes(b"\0binary")
    os.symlink("f", root / "link")
    (root / "d").mkdir()
    (root / "d" / "x").write_text("x\n")
    (root / ".snapshots" / "s").mkdir()
    edited = [*LINES[:10], "another line\n", *LINES[11:]]
    (root / "f.new").write_text("".join(["f\n", *edited]))
    (root / "f.new").rename(root / "f")
    (root / "moved").rename(root / "d" / "here")
    (root / "gone").unlink()
    (root / ODD).write_text("odd\n")
    (root / "program").chmod(0o755)
    (root / "typed").unlink()
    os.symlink("d", root / "typed")
    (root / "binary").write_bytes(b"\0other")
    (root / "link").unlink()
    os.symlink("elsewhere", root / "link")
    os.setxattr(root / "d", "user.x", b"1")
    (root / "new").write_text("new\n")
    return root


NAMES = (
    'M\t"a\\nb\\t\\"c\\001"\nM\tbinary\nM\td\nR\tmoved\td/here\nM\tf\nD\tgone\nM\tlink\nA\tnew\nM\tprogram\nT\ttyped\n'
)


def test_names_by_command_and_as_files(changed: Path) -> None:
    assert heliosfs("diff", changed, "s", "--names") == NAMES
    for name in ("s", "s..now"):
        assert (changed / ".heliosfs" / "changes" / name).read_text() == NAMES
        assert (changed / ".heliosfs" / "diff" / name).read_text() == heliosfs("diff", changed, "s")
    assert heliosfs("diff", changed, "s", "--names", "--", "d", "gone") == "M\td\nA\td/here\nD\tgone\n"
    assert heliosfs("diff", changed, "s", "now", "--names", "--", changed / "f") == "M\tf\n"
    found = json.loads(heliosfs("diff", changed, "s", "--json"))
    by_path = {each["path"]: each for each in found["changes"]}
    assert by_path["d/here"]["change"] == "R" and by_path["d/here"]["old_path"] == "moved"
    assert by_path["d"]["what"] == ["xattrs"] and by_path["f"]["what"] == ["content"]
    assert by_path["typed"]["before"]["type"] == "file" and by_path["typed"]["after"]["type"] == "symlink"
    assert " f       " in heliosfs("diff", changed, "s", "--stat")


@pytest.mark.parametrize("words", [["git", "apply"], ["patch", "-p1", "-s"]])
def test_the_patch_applies(changed: Path, tmp_path: Path, words: list[str]) -> None:
    """All of it but the binary file, which a patch only names."""
    tool(words[0])
    target = tmp_path / "copy"
    heliosfs("export", changed, "s", target)
    for name in ("binary", "typed", "link"):
        (target / name).unlink()
    wanted = [name for name in os.listdir(changed) if name not in ("binary", "typed", "link")]
    diff = heliosfs("diff", changed, "s", "--", *wanted, "moved", "gone")
    subprocess.run(words, cwd=target, input=diff.encode(), check=True)
    assert (target / "f").read_bytes() == (changed / "f").read_bytes()
    assert (target / ODD).read_text() == "odd\n" and (target / "new").read_text() == "new\n"
    assert (target / "d" / "here").read_bytes() == (changed / "d" / "here").read_bytes()
    assert not (target / "gone").exists() and os.access(target / "program", os.X_OK)


def test_a_binary_file_is_said_to_differ(changed: Path) -> None:
    diff = heliosfs("diff", changed, "s", "--", "binary")
    assert "Binary files a/binary and b/binary differ" in diff
    words = ["git", "apply", "--check"]
    applied = subprocess.run(words, cwd="/", input=diff.encode(), capture_output=True, check=False)
    assert applied.returncode != 0


def test_a_patch_with_a_binary_file_is_refused_as_a_whole(changed: Path, tmp_path: Path) -> None:
    tool("git")
    target = tmp_path / "copy"
    heliosfs("export", changed, "s", target)
    before = facts(target)
    diff = heliosfs("diff", changed, "s", "--", "binary", "f")
    assert "a/f" in diff
    applied = subprocess.run(["git", "apply"], cwd=target, input=diff.encode(), capture_output=True, check=False)
    assert applied.returncode != 0 and b"binary patch to 'binary'" in applied.stderr
    assert facts(target) == before


def test_what_is_wrong_is_named(changed: Path) -> None:
    operations = len(json.loads(heliosfs("log", changed, "--json")))
    for state, said in (
        ("nothing", "there is no state 'nothing'"), ("1999-01-01", "or before"), ("op:99999", "no operation 99999"),
        ("none@s", "there is no state 'none@s'"),
    ):  # fmt: skip
        assert said in heliosfs("diff", changed, state, status=1)
        assert said in heliosfs("restore", changed, state, status=1)
    bad = (("../x", "../x"), ("missing", "no missing"), ("/etc", "/etc is outside"), (".snapshots", "no file"))
    for path, said in bad:
        assert said in heliosfs("diff", changed, "s", "--", path, status=1)
    with fails(errno.ENOENT):
        (changed / ".heliosfs" / "diff" / "s..nothing").read_text()
    with user(NOBODY), fails(errno.EACCES):
        (changed / ".heliosfs" / "diff" / "s").read_text()
    assert "is not in a HeliosFS mount" in heliosfs("diff", "/", "s", status=1)
    assert len(json.loads(heliosfs("log", changed, "--json"))) == operations

"""Patches: what `git apply` and `patch -p1` make of them is the other state."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from stat import S_IFIFO, S_IFLNK, S_IFREG

import pytest
from hypothesis import given, settings

from heliosfs.view.view import View
from heliosfs.volume.patch import counts, human, patch, stat_text
from heliosfs.volume.volume import Volume
from tests.volume.trees import CALLER, STEPS, Step, link, move, new_volume, put, remove, settle, shown, take

EXAMPLES = int(os.environ.get("HELIOSFS_TEST_EXAMPLES", "0"))
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
needs_patch = pytest.mark.skipif(shutil.which("patch") is None, reason="patch is not installed")
TOOLS = [pytest.param("git", marks=needs_git), pytest.param("patch", marks=needs_patch)]
APPLY = {
    "git": ["git", "apply", "--whitespace=nowarn", "--unsafe-paths", "-"],
    "patch": ["patch", "-p1", "-s", "--no-backup-if-mismatch"],
}

Files = dict[bytes, tuple[int, bytes]]
"""Path -> mode as git knows it, and content."""


def snapshot(volume: Volume) -> None:
    volume.snapshot(volume.main, b"before", CALLER)


def patch_of(volume: Volume, *paths: bytes, backward: bool = False) -> bytes:
    states = volume.state(volume.main, "before"), volume.state(volume.main, "now")
    a, b = reversed(states) if backward else states
    return b"".join(patch(volume.engine, a, b, paths))


def files_of(view: View) -> Files:
    """What a patch can hold of a tree."""
    found: Files = {}
    for path, file in shown(view).items():
        if file.type == S_IFREG:
            found[path] = (0o755 if file.mode & 0o100 else 0o644, file.content)
        elif file.type == S_IFLNK:
            found[path] = (0, file.content)
    return found


def write_out(files: Files, directory: Path) -> None:
    for path, (mode, content) in files.items():
        place = os.path.join(os.fsencode(directory), path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if mode == 0:
            os.symlink(content, place)
        else:
            Path(os.fsdecode(place)).write_bytes(content)
            os.chmod(place, mode)


def read_in(directory: Path) -> Files:
    found: Files = {}
    top = os.fsencode(directory)
    for above, directories, names in os.walk(top):
        for name in directories + names:
            place = os.path.join(above, name)
            path = os.path.relpath(place, top)
            if os.path.islink(place):
                found[path] = (0, os.readlink(place))
            elif os.path.isfile(place):
                mode = 0o755 if os.stat(place).st_mode & 0o100 else 0o644
                found[path] = (mode, Path(os.fsdecode(place)).read_bytes())
    return found


def applied(tool: str, text: bytes, before: Files, directory: Path) -> Files:
    """What a tool makes of files with a patch."""
    directory.mkdir()
    write_out(before, directory)
    if b"diff --git " in text:
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(directory.parent), "LC_ALL": "C"}
        done = subprocess.run(
            APPLY[tool], cwd=directory, input=text, capture_output=True, env=environment, timeout=60, check=False
        )
        assert done.returncode == 0, (done.stdout, done.stderr, text)
    return read_in(directory)


def check(tool: str, volume: Volume, before: Files, tmp_path: Path) -> bytes:
    """The patch does what it says, both ways."""
    after = files_of(volume.main.view)
    text = patch_of(volume)
    assert applied(tool, text, before, tmp_path / "forward") == after
    assert applied(tool, patch_of(volume, backward=True), after, tmp_path / "backward") == before
    return text


@pytest.mark.parametrize("tool", TOOLS)
def test_contents(tool: str, tmp_path: Path) -> None:
    with new_volume() as volume:
        view = volume.main.view
        lines = [b"line %d\n" % number for number in range(100)]
        texts = {
            b"first": (b"".join(lines), b"".join([b"new\n", *lines])),
            b"last": (b"".join(lines), b"".join([*lines, b"new"])),
            b"middle": (b"".join(lines), b"".join([*lines[:40], b"x\n", *lines[41:60], *lines[65:]])),
            b"newline-lost": (b"a\nb\n", b"a\nb"),
            b"newline-won": (b"a\nb", b"a\nb\n"),
            b"no-newlines": (b"a", b"b"),
            b"dashes": (b"-- a\n", b"++ b\n"),
            b"blank": (b"\n\n\n", b"\n\n\n\n"),
            b"bytes": (b"\xff\xfe\n\r\n\x0c", b"\xff\xfd\n\r\n\x0c\r"),
            b"one": (b"", b"1\n"),
        }
        for name, (old, _) in texts.items():
            put(view, name, old)
        put(view, b"gone", b"1\n2\n")
        snapshot(volume)
        before = files_of(view)
        for name, (_, new) in texts.items():
            put(view, name, new)
        remove(view, b"gone")
        put(view, b"deep/er/new", b"here\nand there")
        settle(volume)
        text = check(tool, volume, before, tmp_path)
        assert b"\n--- a/first\n+++ b/first\n@@ -1,3 +1,4 @@\n+new\n line 0\n" in text


@pytest.mark.parametrize("tool", TOOLS)
def test_modes_renames_and_links(tool: str, tmp_path: Path) -> None:
    with new_volume() as volume:
        view = volume.main.view
        for name in (b"mode", b"moved", b"edited", b"folder/a", b"folder/b", b"type"):
            put(view, name, name + b"\n1\n2\n3\n")
        link(view, b"link", b"old/target")
        link(view, b"link-moved", b"there")
        snapshot(volume)
        before = files_of(view)
        view.set_attributes(view.resolve(b"mode"), mode=0o755)
        move(view, b"moved", b"to/moved")
        move(view, b"edited", b"renamed")
        put(view, b"renamed", b"edited\n1\n2\nthree\n", 0o644)
        move(view, b"folder", b"directory")
        remove(view, b"type")
        link(view, b"type", b"else")
        remove(view, b"link")
        link(view, b"link", b"new/target")
        put(view, b"program", b"#!/bin/sh\n", 0o755)
        text = patch_of(volume)
        assert b"old mode 100644\nnew mode 100755\n" in text
        assert b"rename from folder/a\nrename to directory/a\n" in text
        assert b"heliosfs: directory renamed: folder => directory\n" in text
        check(tool, volume, before, tmp_path)


@pytest.mark.parametrize("tool", TOOLS)
def test_empty_files(tool: str, tmp_path: Path) -> None:
    with new_volume() as volume:
        view = volume.main.view
        for name in (b"gone", b"package/__init__.py", b"filled", b"two words", b"moved here"):
            put(view, name)
        put(view, b"emptied", b"1\n")
        snapshot(volume)
        before = files_of(view)
        for name in (b"gone", b"package", b"two words"):
            remove(view, name)
        put(view, b"filled", b"1\n")
        put(view, b"emptied")
        put(view, b"new")
        put(view, b"three new words")
        move(view, b"moved here", b"moved there")
        check(tool, volume, before, tmp_path)


@pytest.mark.parametrize("tool", TOOLS)
def test_odd_names(tool: str, tmp_path: Path) -> None:
    names = [
        b"with blank",
        b"two  blanks ",
        b'quo"te',
        b"back\\slash",
        b"tab\tbed",
        "é".encode(),
        b"\xff",
        b"\x01\x7f",
        b"-p0",
    ]
    if tool == "git":
        names.append(b"new\nline")
    with new_volume() as volume:
        view = volume.main.view
        for name in names:
            put(view, name, b"1\n2\n")
            put(view, b"below " + name + b"/gone", b"1\n")
        snapshot(volume)
        before = files_of(view)
        for name in names:
            put(view, name, b"1\n3\n")
            remove(view, b"below " + name + b"/gone")
            put(view, b"new " + name, b"new\n")
        check(tool, volume, before, tmp_path)


def test_binary_files_are_said_to_differ() -> None:
    with new_volume() as volume:
        view = volume.main.view
        put(view, b"binary", b"a\0b")
        put(view, b"text", b"a\n")
        snapshot(volume)
        put(view, b"binary", b"a\0c")
        put(view, b"new", b"\0")
        put(view, b"text", b"b\n")
        said = re.sub(b"index [0-9a-f]+[.][.][0-9a-f]+", b"index", patch_of(volume))
        assert said == (
            b"diff --git a/binary b/binary\nindex\nBinary files a/binary and b/binary differ\n"
            b"diff --git a/new b/new\nnew file mode 100644\nBinary files /dev/null and b/new differ\n"
            b"diff --git a/text b/text\nindex 100644\n--- a/text\n+++ b/text\n@@ -1 +1 @@\n-a\n+b\n"
        )
        assert patch_of(volume, b"text").startswith(b"diff --git a/text b/text\n")


def test_what_git_has_no_words_for_is_remarked() -> None:
    with new_volume() as volume:
        view = volume.main.view
        file = put(view, b"file", b"1")
        put(view, b"gone/file", b"1")
        snapshot(volume)
        assert patch_of(volume) == b""
        view.set_attributes(file, mode=0o600, uid=7)
        view.set_xattr(file, b"user.k", b"v")
        view.make(view.root, b"fifo", S_IFIFO | 0o644, CALLER)
        remove(view, b"gone")
        text = patch_of(volume)
        for line in (
            b"mode 0644 -> 0600: file",
            b"owner 1000:1000 -> 7:1000: file",
            b"attribute user.k added: file",
            b"fifo added: fifo",
            b"directory deleted: gone",
        ):
            assert b"heliosfs: " + line + b"\n" in text


@needs_git
def test_it_is_what_git_says(tmp_path: Path) -> None:
    run = ["git", "-C", str(tmp_path)]
    subprocess.run([*run, "init", "-q"], check=True)
    texts = [b"".join(b"%d\n" % (number % step) for number in range(90)) for step in (7, 11, 50, 80, 90)]
    with new_volume() as volume:
        for number, text in enumerate(texts):
            put(volume.main.view, b"%d" % number, text)
        snapshot(volume)
        write_out(files_of(volume.main.view), tmp_path)
        subprocess.run([*run, "add", "-A"], check=True)
        for number, text in enumerate(texts):
            lines = text.split(b"\n")
            put(volume.main.view, b"%d" % number, b"\n".join([*lines[:20], b"x", *lines[24:70], b"y", *lines[70:]]))
        for path, (_, content) in files_of(volume.main.view).items():
            (tmp_path / os.fsdecode(path)).write_bytes(content)
        said = subprocess.run([*run, "diff", "--numstat"], check=True, capture_output=True).stdout
        states = volume.state(volume.main, "before"), volume.state(volume.main, "now")
        found = [
            b"%d\t%d\t%b" % (each.added or 0, each.removed or 0, each.path)
                for each in counts(volume.engine, *states)
                if each is not None
        ]
        assert found == said.splitlines()


@needs_git
def test_the_objects_are_those_of_git(tmp_path: Path) -> None:
    """So `git apply -3` finds what a patch was made from and merges it into what has changed since."""
    run = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    lines = [b"%d\n" % number for number in range(30)]
    with new_volume() as volume:
        put(volume.main.view, b"file", b"".join(lines))
        snapshot(volume)
        write_out(files_of(volume.main.view), tmp_path)
        put(volume.main.view, b"file", b"".join([*lines[:14], b"theirs\n", *lines[15:]]))
        text = patch_of(volume)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "1"]):
        subprocess.run([*run, *command], check=True)
    # The context of the patch is not there any more, so that only a merge can help.
    (tmp_path / "file").write_bytes(b"".join([*lines[:10], b"ours\n", *lines[13:]]))
    subprocess.run([*run, "commit", "-qam", "2"], check=True)
    subprocess.run([*run, "apply", "-3", "-"], input=text, check=True, capture_output=True)
    merged = [*lines[:10], b"ours\n", lines[13], b"theirs\n", *lines[15:]]
    assert (tmp_path / "file").read_bytes() == b"".join(merged)


def test_a_table_of_counts() -> None:
    with new_volume() as volume:
        view = volume.main.view
        put(view, b"old", b"1\n2\n3\n")
        put(view, b"binary", bytes(2048))
        snapshot(volume)
        states = volume.state(volume.main, "before"), volume.state(volume.main, "now")
        assert stat_text(volume.engine, *states) == b" 0 files changed, +0 -0 lines\n"
        move(view, b"old", b"new")
        view.write(view.resolve(b"new"), 0, b"x")
        put(view, b"binary", bytes(10))
        states = volume.state(volume.main, "before"), volume.state(volume.main, "now")
        assert stat_text(volume.engine, *states) == (
            b" binary     | binary, 2.0 KiB -> 10 B\n old => new | +1 -1\n 2 files changed, +1 -1 lines\n"
        )


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 60, "1024.0 PiB")])
def test_sizes(size: int, text: str) -> None:
    assert human(size) == text


@needs_git
@settings(max_examples=EXAMPLES or 20, deadline=None, derandomize=not EXAMPLES, database=None)
@given(first=STEPS, second=STEPS)
def test_any_patch_can_be_applied(
    tmp_path_factory: pytest.TempPathFactory, first: list[Step], second: list[Step]
) -> None:
    with new_volume() as volume:
        take(volume, first)
        snapshot(volume)
        before = files_of(volume.main.view)
        take(volume, second)
        if any(b"\0" in content for files in (before, files_of(volume.main.view)) for _, content in files.values()):
            return
        directory = tmp_path_factory.mktemp("patch")
        check("git", volume, before, directory)
        shutil.rmtree(directory)

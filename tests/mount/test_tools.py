"""Unmodified tools at their usual work: archives, copies, git, databases, compilers, package managers."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from .support import NOBODY, Child, is_root, mount_only, opened, run, tool

GIT_ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


def populate(directory: Path, seed: int = 1, files: int = 200) -> None:
    """A tree with what archives and copies have to keep: sizes, modes, links, times, holes, odd names."""
    choose = random.Random(seed)
    directory.mkdir(exist_ok=True)
    places = [directory]
    for number in range(files // 10):
        place = choose.choice(places) / f"directory {number}"
        place.mkdir()
        places.append(place)
    written = []
    for number in range(files):
        path = choose.choice(places) / choose.choice((f"file-{number}", f"füle {number}", f".hidden-{number}"))
        path.write_bytes(choose.randbytes(choose.choice((0, 1, 100, 4_000, 40_000, 150_000))))
        path.chmod(choose.choice((0o644, 0o600, 0o755, 0o444)))
        written.append(path)
    for number in range(10):
        os.link(choose.choice(written), directory / f"hard-{number}")
        (choose.choice(places) / f"symbolic-{number}").symlink_to(choose.choice((f"file-{number}", "/nowhere", "..")))
    odd = os.path.join(os.fsencode(directory), b"not UTF-8 \xff\xfe")
    with opened(odd, os.O_CREAT | os.O_WRONLY) as descriptor:
        os.write(descriptor, b"content")
    with opened(directory / "sparse", os.O_CREAT | os.O_WRONLY) as descriptor:
        os.pwrite(descriptor, b"end", 3_000_000)
    os.mkfifo(directory / "fifo")
    os.setxattr(written[0], "user.name", b"value")
    os.setxattr(directory, "user.name", b"of the directory")
    if is_root:
        os.chown(written[1], NOBODY, 1234)
        os.setxattr(written[2], "trusted.name", b"value")
        os.mknod(directory / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    # rsync compares the times of all but files to the second only: theirs must be old to be set at all.
    special = [path for path in directory.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
    for path in [*written, *sorted(special)]:
        moment = choose.randrange(10**18, 17 * 10**17)
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


def portrait(directory: Path) -> dict[bytes, tuple[Any, ...]]:
    """All that a good copy keeps, by path."""
    root = os.fsencode(directory)
    found: dict[bytes, tuple[Any, ...]] = {}
    links: dict[int, bytes] = {}
    for place, names, others in os.walk(root):
        for name in sorted([*names, *others, b"."]):
            path = os.path.join(place, name)
            relative = os.path.relpath(path, root)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if kind == stat.S_IFREG:
                with open(path, "rb") as file:
                    content = file.read()
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
                if not key.startswith(("user.heliosfs.", "security."))
            }
            first = links.setdefault(status.st_ino, relative) if kind == stat.S_IFREG else relative
            found[relative] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_rdev,
                status.st_mtime_ns if kind != stat.S_IFDIR else None,
                first,
                content,
                xattrs,
            )
    return found


def same(one: Path, two: Path) -> None:
    first, second = portrait(one), portrait(two)
    assert first.keys() == second.keys()
    for path, kept in first.items():
        assert second[path] == kept, path


# Archives and copies


def test_tar_there_and_back(tree: Path, tmp_path: Path) -> None:
    tool("tar")
    populate(tmp_path / "source")
    flags = ["--xattrs", "--xattrs-include=*", "--acls", "--sparse", "--numeric-owner"]
    run("tar", *flags, "-cf", tmp_path / "one.tar", "-C", tmp_path, "source")
    run("tar", *flags, "-xpf", tmp_path / "one.tar", "-C", tree)
    same(tmp_path / "source", tree / "source")
    run("tar", *flags, "-czf", tree / "two.tar.gz", "-C", tree, "source")
    (tmp_path / "back").mkdir()
    run("tar", *flags, "-xpf", tree / "two.tar.gz", "-C", tmp_path / "back")
    same(tmp_path / "source", tmp_path / "back" / "source")


def test_rsync_there_and_back(tree: Path, tmp_path: Path) -> None:
    tool("rsync")
    populate(tmp_path / "source")
    run("rsync", "-aHAX", "--numeric-ids", f"{tmp_path}/source/", tree / "copy")
    same(tmp_path / "source", tree / "copy")
    again = run("rsync", "-aHAX", "--numeric-ids", "-i", f"{tmp_path}/source/", tree / "copy")
    assert again.stdout == "", "nothing is left to do"
    run("rsync", "-aHAX", "--numeric-ids", f"{tree}/copy/", tmp_path / "back")
    same(tmp_path / "source", tmp_path / "back")
    (tmp_path / "source" / "hard-0").write_text("changed")
    (tmp_path / "source" / "sparse").unlink()
    run("rsync", "-aHAX", "--numeric-ids", "--delete", "--inplace", f"{tmp_path}/source/", tree / "copy")
    same(tmp_path / "source", tree / "copy")


def test_cp_there_and_back(tree: Path, tmp_path: Path) -> None:
    tool("cp")
    populate(tmp_path / "source")
    run("cp", "-a", tmp_path / "source", tree / "copy")
    same(tmp_path / "source", tree / "copy")
    run("cp", "-a", "--reflink=auto", tree / "copy", tree / "second")
    same(tmp_path / "source", tree / "second")
    run("diff", "-r", "--no-dereference", "-x", "fifo", "-x", "device", tree / "copy", tree / "second")
    run("rm", "-rf", tree / "copy", tree / "second")
    assert os.listdir(tree) == []


@mount_only
@pytest.mark.parametrize("kind", [".snapshots", ".branches"])
@pytest.mark.parametrize("copier", ["rsync", "cp"])
def test_copies_into_snapshots_and_branches(base: Path, tmp_path: Path, kind: str, copier: str) -> None:
    tool(copier)
    populate(tmp_path / "source")
    target = base / kind / f"{copier}-copy"
    if copier == "rsync":
        run("rsync", "-aHAX", "--numeric-ids", f"{tmp_path}/source/", target)
    else:
        run("cp", "-a", tmp_path / "source", target)
    same(tmp_path / "source", target)
    run("rm", "-r", target)
    assert not target.exists()


def test_zip_and_unzip(tree: Path, tmp_path: Path) -> None:
    tool("zip")
    tool("unzip")
    source = tree / "source"
    for number in range(50):
        path = source / f"{number % 5}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(number).randbytes(number * 500))
    run("zip", "-qr", "archive.zip", "source", cwd=tree)
    run("unzip", "-q", "../archive.zip", cwd=_made(tree / "unpacked"))
    run("diff", "-r", source, tree / "unpacked" / "source")


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


# Version control


def test_git_clone_commit_and_check(tree: Path, tmp_path: Path) -> None:
    tool("git")
    origin = tmp_path / "origin"
    populate(origin)
    for special in ("fifo", "device"):
        (origin / special).unlink(missing_ok=True)

    def git(*words: str | Path, cwd: Path) -> str:
        return run("git", *words, cwd=cwd, environment=GIT_ENVIRONMENT).stdout

    git("init", "-q", "-b", "main", ".", cwd=origin)
    git("config", "core.autocrlf", "false", cwd=origin)
    git("add", "-A", cwd=origin)
    git("commit", "-q", "-m", "first", cwd=origin)
    git("clone", "-q", "--no-local", origin, "clone", cwd=tree)
    clone = tree / "clone"
    assert git("status", "--porcelain", cwd=clone) == ""
    git("fsck", "--full", "--strict", cwd=clone)
    (clone / "new").write_text("new\n")
    (clone / "hard-0").write_text("changed\n")
    (clone / "hard-1").unlink()
    assert git("status", "--porcelain", cwd=clone) == " M hard-0\n D hard-1\n?? new\n"
    git("add", "-A", cwd=clone)
    git("commit", "-q", "-m", "second", cwd=clone)
    assert git("status", "--porcelain", cwd=clone) == ""
    git("checkout", "-q", "-b", "other", "HEAD~1", cwd=clone)
    assert (clone / "hard-1").exists()
    git("checkout", "-q", "main", cwd=clone)
    assert not (clone / "hard-1").exists()
    git("gc", "-q", "--aggressive", "--prune=now", cwd=clone)
    git("fsck", "--full", cwd=clone)
    git("worktree", "add", "-q", "../worktree", "other", cwd=clone)
    git("clone", "-q", "--local", "clone", "linked", cwd=tree)
    git("fsck", "--full", cwd=tree / "linked")
    assert git("rev-parse", "HEAD", cwd=tree / "linked") == git("rev-parse", "main", cwd=clone)


# Databases

SQLITE_WRITER = """
import sqlite3, sys
connection = sqlite3.connect("base", timeout=300, isolation_level=None)
connection.execute("PRAGMA synchronous=NORMAL")
writer = int(sys.argv[1])
for number in range(60):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (writer, number, "x" * (number * 37 % 3000)))
    connection.execute("UPDATE counter SET value = value + 1")
    connection.execute("COMMIT")
connection.close()
"""


@pytest.mark.parametrize("journal", ["WAL", "DELETE", "TRUNCATE"])
def test_sqlite_under_concurrent_writers(tree: Path, journal: str) -> None:
    connection = sqlite3.connect(tree / "base", timeout=300, isolation_level=None)
    with contextlib.closing(connection):
        assert connection.execute(f"PRAGMA journal_mode={journal}").fetchone()[0].upper() == journal
        connection.execute("CREATE TABLE entries (writer, number, content, PRIMARY KEY (writer, number))")
        connection.execute("CREATE TABLE counter (value)")
        connection.execute("INSERT INTO counter VALUES (0)")
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(Child(SQLITE_WRITER, str(number), cwd=tree)) for number in range(3)]
            for writer in writers:
                writer.finish()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT value FROM counter").fetchone() == (180,)
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (180,)
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@mount_only
def test_a_snapshot_of_a_live_database_is_sound(base: Path) -> None:
    """A snapshot is what a power cut would leave, so a database in it recovers."""
    directory = _made(base / "live")
    connection = sqlite3.connect(directory / "base", timeout=300, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE entries (writer, number, content, PRIMARY KEY (writer, number))")
        connection.execute("CREATE TABLE counter (value)")
        connection.execute("INSERT INTO counter VALUES (0)")
        with Child(SQLITE_WRITER, "1", cwd=directory) as writer:
            taken = 0
            while writer.process.poll() is None and taken < 40:
                (base / ".branches" / f"live-{taken}").mkdir()
                taken += 1
            writer.finish()
    (base / ".branches" / "live-last").mkdir()
    last = 0
    for name in [*(f"live-{number}" for number in range(taken)), "live-last"]:
        copy = sqlite3.connect(base / ".branches" / name / "live" / "base", timeout=300)
        with contextlib.closing(copy):
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            (value,) = copy.execute("SELECT value FROM counter").fetchone()
            assert copy.execute("SELECT count(*) FROM entries").fetchone() == (value,)
            assert value >= last
            last = value
    assert last == 60


# Compilers and package managers


def test_building_a_c_program_in_parallel(tree: Path) -> None:
    tool("make")
    compiler = "gcc" if shutil.which("gcc") else tool("cc")
    names = [f"part{number}" for number in range(12)]
    for number, name in enumerate(names):
        (tree / f"{name}.c").write_text(f'#include "parts.h"\nint {name}(void) {{ return {number}; }}\n')
    (tree / "parts.h").write_text("".join(f"int {name}(void);\n" for name in names))
    total = " + ".join(f"{name}()" for name in names)
    (tree / "main.c").write_text(
        f'#include <stdio.h>\n#include "parts.h"\nint main(void) {{ printf("%d\\n", {total}); return 0; }}\n'
    )
    objects = " ".join(f"{name}.o" for name in [*names, "main"])
    (tree / "Makefile").write_text(
        f"CC={compiler}\nprogram: libparts.a main.o\n\t$(CC) -o $@ main.o libparts.a\n"
        f"libparts.a: {objects.replace(' main.o', '')}\n\tar rcs $@ $^\n"
        "%.o: %.c parts.h\n\t$(CC) -O1 -g -c -o $@ $<\nclean:\n\trm -f *.o *.a program\n"
    )
    run("make", "-j4", cwd=tree)
    assert run("./program", cwd=tree).stdout == "66\n"
    assert "up to date" in run("make", "-j4", cwd=tree).stdout
    (tree / "part3.c").write_text('#include "parts.h"\nint part3(void) { return 1003; }\n')
    os.utime(tree / "part3.c", ns=((tree / "program").stat().st_mtime_ns + 1_000_000_000,) * 2)
    made = run("make", "-j4", cwd=tree).stdout
    assert "part3.c" in made
    assert "part4.c" not in made
    assert run("./program", cwd=tree).stdout == "1066\n"
    run("make", "clean", cwd=tree)
    assert sorted(path.suffix for path in tree.iterdir()) == sorted(["", ".h", *[".c"] * 13])


PIP_PACKAGE = "msgspec"
"""Small, with a compiled part, and a dependency of ours: so pip has often cached it."""


def test_python_virtual_environment_and_pip(tree: Path) -> None:
    environment = tree / "environment"
    created = run(sys.executable, "-m", "venv", environment, check=False)
    if created.returncode != 0:
        pytest.skip(f"this Python makes no virtual environments: {created.stdout[-300:]}{created.stderr[-300:]}")
    python = environment / "bin" / "python"
    prefix = run(python, "-c", "import sys; print(sys.prefix)").stdout.strip()
    assert prefix == str(environment)
    words = [
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "--no-deps",
        PIP_PACKAGE,
    ]
    installed = run(python, *words, check=False)
    if installed.returncode != 0:
        pytest.skip(f"pip cannot get {PIP_PACKAGE} here: {installed.stderr[-500:]}")
    source = f"import {PIP_PACKAGE}, {PIP_PACKAGE}._core as core; print(core.__file__)"
    where = run(python, "-c", source).stdout.strip()
    assert where.startswith(str(environment))
    assert where.endswith(sysconfig.get_config_var("EXT_SUFFIX").rsplit(".", 1)[1])
    run(python, "-m", "pip", "check")
    run(python, "-m", "pip", "uninstall", "-y", PIP_PACKAGE)
    assert run(python, "-c", f"import {PIP_PACKAGE}", check=False).returncode != 0


NPM_PACKAGE = "semver@7"


def test_npm_install(tree: Path) -> None:
    tool("npm")
    tool("node")
    (tree / "package.json").write_text('{"name": "project", "version": "1.0.0", "private": true}')
    installed = run(
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--cache",
        tree / "cache",
        NPM_PACKAGE,
        cwd=tree,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm cannot get {NPM_PACKAGE} here: {installed.stderr[-500:]}")
    script = "console.log(require('semver').satisfies('1.2.3', '>=1.0.0'))"
    assert run("node", "-e", script, cwd=tree).stdout == "true\n"
    assert os.access(tree / "node_modules" / ".bin" / "semver", os.X_OK)
    run("npm", "ci", "--no-audit", "--no-fund", "--cache", tree / "cache", "--prefer-offline", cwd=tree)
    assert run("node_modules/.bin/semver", "1.2.3", "-r", ">=1.0.0", cwd=tree).stdout == "1.2.3\n"
    copied = "require('fs').cpSync('node_modules', 'copied', {recursive: true}); console.log('copied')"
    assert run("node", "-e", copied, cwd=tree).stdout == "copied\n"
    run("diff", "-r", "node_modules", "copied", cwd=tree)


# The shell's tools


def test_text_tools_edit_in_place(tree: Path) -> None:
    for number in range(20):
        (tree / f"file-{number}").write_text("one\ntwo\nthree\n" * 50)
    run("sh", "-c", "sed -i s/two/2/ file-*", cwd=tree)
    assert run("sh", "-c", "cat file-* | grep -c '^2$'", cwd=tree).stdout.strip() == "1000"
    run("sh", "-c", "for f in file-*; do sort -o $f $f; done", cwd=tree)
    assert run("sh", "-c", "cat file-* | sort | uniq -c | awk '{print $1}'", cwd=tree).stdout.split() == ["1000"] * 3
    assert run("sh", "-c", "find . -type f -newermt 2020-01-01 | wc -l", cwd=tree).stdout.strip() == "20"
    assert run("sh", "-c", "du -s --apparent-size . | cut -f1", cwd=tree).stdout.strip() != "0"
    run(
        "sh",
        "-c",
        "dd if=/dev/zero of=zeros bs=1M count=8 conv=fsync 2>&1 && cmp -n 8388608 zeros /dev/zero",
        cwd=tree,
    )


def test_inotify_tells_of_changes(tree: Path) -> None:
    """Of changes through the same mount, as on any filesystem."""
    source = """
import ctypes, os
libc = ctypes.CDLL(None)
descriptor = libc.inotify_init()
assert libc.inotify_add_watch(descriptor, b".", 0x100 | 0x200 | 0x2 | 0xc0) >= 0
print("watching", flush=True)
input()
data = os.read(descriptor, 65536)
names = set()
while data:
    length = int.from_bytes(data[12:16], "little")
    names.add(data[16:16 + length].rstrip(b"\\0").decode())
    data = data[16 + length:]
print(" ".join(sorted(names)))
"""
    with Child(source, cwd=tree) as watcher:
        assert watcher.hear() == "watching"
        (tree / "made").write_text("content")
        os.rename(tree / "made", tree / "renamed")
        (tree / "renamed").unlink()
        watcher.say("go on")
        assert watcher.finish().split() == ["made", "renamed"]


def test_shell_redirections_and_heredocs(tree: Path) -> None:
    script = """
set -e
exec 3<>both
echo one >&3
cat >there <<END
$(seq 1 1000)
END
for n in 1 2 3; do echo $n >>log & done; wait
test "$(sort log | tr -d '\\n')" = 123
set -C
! (echo x >log) 2>/dev/null
mkdir -p a/b/c && cd a/b/c && pwd
cp -r ../../../a ../../../copy 2>/dev/null
ls -la /proc/self/fd >/dev/null
"""
    result = subprocess.run(["bash", "-c", script], cwd=tree, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert (tree / "both").read_text() == "one\n"
    assert (tree / "there").read_text() == "".join(f"{number}\n" for number in range(1, 1001))

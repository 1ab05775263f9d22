"""A daemon killed at any moment: what was acknowledged is there after the remount, and the store is sound.

Workers note what they did after each call returned; what a worker was about to do when the mount died may be
there or not. HELIOSFS_TEST_KILL_ROUNDS=N runs more seeds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .support import Child, fails, mount_only, opened
from .volumes import MountedVolume

pytestmark = mount_only

ROUNDS = int(os.environ.get("HELIOSFS_TEST_KILL_ROUNDS", "3"))
WAIT_SECONDS = 300

WORKER = r'''
"""Does random things in a directory of its own until the mount dies, and tells of each before and after."""
import os, random, sys

seed, number = int(sys.argv[1]), int(sys.argv[2])
choose = random.Random(seed * 1000 + number)
home = f"worker-{number}"

def tell(*words):
    sys.stdout.buffer.write("\t".join(map(str, words)).encode() + b"\n")
    sys.stdout.buffer.flush()

def content(key):
    return random.Random(key).randbytes(random.Random(key + 1).choice((10, 300, 5000, 70000, 400000)))

def put(file, data):
    """The kernel splits a write at pages: when the mount dies between two of them, the call returns a short count."""
    if file.write(data) != len(data):
        raise OSError("the mount died in the middle of a write")

made = []
turn = 0
try:
    os.mkdir(home)
    tell("done", "mkdir", home)
    while True:
        turn += 1
        key = choose.randrange(10**9)
        name = f"{home}/{turn}"
        what = choose.choice("write write append rename unlink chmod xattr link symlink fsync".split())
        if what == "write" or not made:
            tell("try", "write", name, key)
            with open(name, "wb", buffering=0) as file:
                data = content(key)
                half = len(data) // 2
                put(file, data[:half])
                put(file, data[half:])
            tell("done", "write", name, key)
            made.append(name)
            continue
        target = choose.choice(made)
        if what == "append":
            tell("try", "append", target, turn)
            with open(target, "ab", buffering=0) as file:
                put(file, b"appended %d" % turn)
            tell("done", "append", target, turn)
        elif what == "rename":
            tell("try", "rename", target, name)
            os.rename(target, name)
            tell("done", "rename", target, name)
            made[made.index(target)] = name
        elif what == "unlink" and len(made) > 5:
            tell("try", "unlink", target)
            os.unlink(target)
            tell("done", "unlink", target)
            made.remove(target)
        elif what == "chmod":
            mode = choose.choice((0o600, 0o644, 0o755))
            tell("try", "chmod", target, mode)
            os.chmod(target, mode)
            tell("done", "chmod", target, mode)
        elif what == "xattr":
            tell("try", "xattr", target, turn)
            os.setxattr(target, "user.turn", b"%d" % turn)
            tell("done", "xattr", target, turn)
        elif what == "link":
            tell("try", "link", target, name)
            os.link(target, name)
            tell("done", "link", target, name)
            os.unlink(name)
            tell("done", "unlink-link", name)
        elif what == "symlink":
            tell("try", "symlink", target, name)
            os.symlink(target, name)
            tell("done", "symlink", target, name)
        elif what == "fsync":
            with open(target, "rb") as file:
                os.fsync(file.fileno())
except OSError:
    pass
'''

KEEPER = r'''
"""Takes snapshots and forks of the whole tree until the mount dies, and tells of each acknowledged one."""
import os, random, sys
choose = random.Random(int(sys.argv[1]))
number = 0
try:
    while True:
        number += 1
        kind, verb = choose.choice(((".snapshots", "snapshot"),) * 2 + ((".branches", "fork"),))
        name = f"k{number}"
        print("try", verb, name, flush=True)
        os.mkdir(f"{kind}/{name}")
        print("done", verb, name, flush=True)
        if verb == "fork":
            with open(f"{kind}/{name}/mark", "w") as file:
                file.write(name)
            print("done", "mark", name, flush=True)
        if number % 4 == 0:
            os.mkdir(f"checkpoint-{number}")
except OSError:
    pass
'''


def content(key: int) -> bytes:
    return random.Random(key).randbytes(random.Random(key + 1).choice((10, 300, 5000, 70000, 400000)))


def difference(found: bytes, expected: bytes) -> str:
    """Where two contents part, and whether what is found there is zeros."""
    lengths = f"{len(found)} bytes instead of {len(expected)}"
    for index, (one, two) in enumerate(zip(found, expected, strict=False)):
        if one != two:
            zeros = len(found) - index - len(found[index:].lstrip(b"\0"))
            return f"{lengths}, first different at {index}, {zeros} zeros there"
    return lengths


class Expectation:
    """What one worker's notes say must be there; the last try may have happened or not."""

    def __init__(self, notes: list[list[str]]) -> None:
        self.files: dict[str, list[bytes]] = {}
        self.modes: dict[str, int] = {}
        self.turns: dict[str, str] = {}
        self.symlinks: dict[str, str] = {}
        pending: list[str] | None = None
        for note in notes:
            if note[0] == "try":
                pending = note[1:]
            else:
                pending = None
                self._apply(note[1:])
        self.uncertain = set(pending[1:]) if pending else set()

    def _apply(self, note: list[str]) -> None:
        what, name = note[0], note[1]
        if what == "write":
            self.files[name] = [content(int(note[2]))]
        elif what == "append":
            self.files[name].append(b"appended %d" % int(note[2]))
        elif what == "rename":
            self.files[note[2]] = self.files.pop(name)
            if name in self.modes:
                self.modes[note[2]] = self.modes.pop(name)
            if name in self.turns:
                self.turns[note[2]] = self.turns.pop(name)
        elif what == "unlink":
            del self.files[name]
            self.modes.pop(name, None)
            self.turns.pop(name, None)
        elif what == "chmod":
            self.modes[name] = int(note[2])
        elif what == "xattr":
            self.turns[name] = note[2]
        elif what == "symlink":
            self.symlinks[note[2]] = name

    def check(self, root: Path) -> None:
        for name, parts in self.files.items():
            if name in self.uncertain:
                continue
            path = root / name
            expected, found = b"".join(parts), path.read_bytes()
            assert found == expected, f"{name}: {difference(found, expected)}; its parts {[*map(len, parts)]}"
            if name in self.modes:
                assert path.stat().st_mode & 0o777 == self.modes[name], name
            if name in self.turns:
                assert os.getxattr(path, "user.turn").decode() == self.turns[name], name
        for name, target in self.symlinks.items():
            if name not in self.uncertain:
                assert os.readlink(root / name) == target


def notes_of(process: subprocess.Popen[bytes], path: Path) -> list[list[str]]:
    process.wait(WAIT_SECONDS)
    lines = path.read_bytes().split(b"\n")[:-1]
    return [line.decode().replace("\t", " ").split(" ") for line in lines]


def tree_of(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_what_was_acknowledged_survives_the_kill(volume_mount: MountedVolume, tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    root = volume_mount.path
    outputs = [tmp_path / f"notes-{number}" for number in range(4)]
    sources = [(WORKER, str(seed), str(number)) for number in range(3)] + [(KEEPER, str(seed))]
    processes = []
    try:
        for source, output in zip(sources, outputs, strict=True):
            with output.open("wb") as sink:
                processes.append(
                    subprocess.Popen([sys.executable, "-c", *source], stdout=sink, stderr=subprocess.DEVNULL, cwd=root)
                )
        # How long they work is chance anyway; what is required holds at whichever moment the kill comes.
        enough = choose.randrange(10, 600)
        while sum(output.stat().st_size for output in outputs) < enough * 40:
            assert all(process.poll() is None for process in processes)
            time.sleep(0.02)
        volume_mount.kill()
        notes = [notes_of(process, output) for process, output in zip(processes, outputs, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.wait(WAIT_SECONDS)
    volume_mount.mount()
    for worker in notes[:3]:
        Expectation(worker).check(root)
    kept = [note for note in notes[3] if note[0] == "done"]
    trees: dict[str, dict[str, bytes | None]] = {}
    for _, verb, name in kept:
        if verb == "mark":
            assert (root / ".branches" / name / "mark").read_text() == name
        else:
            kind = ".snapshots" if verb == "snapshot" else ".branches"
            assert (root / kind / name).is_dir(), f"{verb} {name} was acknowledged"
            trees[f"{kind}/{name}"] = tree_of(root / kind / name)
    volume_mount.unmount()
    volume_mount.fsck()
    volume_mount.mount()
    for path, tree in trees.items():
        assert tree_of(root / path) == tree, f"{path} is the same after it was sealed"


def test_unlinked_open_files_are_gone_after_the_kill(volume_mount: MountedVolume) -> None:
    path = volume_mount.path / "file"
    descriptors = []
    try:
        for _ in range(50):
            descriptors.append(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR))
            os.write(descriptors[-1], os.urandom(200_000))
            path.unlink()
        volume_mount.kill()
        with fails(errno.ENOTCONN):
            os.fstat(descriptors[0])
    finally:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # close tells that the mount is gone, too
                os.close(descriptor)
    volume_mount.mount()
    assert os.listdir(volume_mount.path) == []
    path.write_text("another")
    volume_mount.unmount()
    volume_mount.fsck()


def test_kill_after_kill(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    for turn in range(6):
        (root / f"file-{turn}").write_bytes(content(turn))
        (root / ".snapshots" / f"s{turn}").mkdir()
        if turn % 2:
            os.sync()
        volume_mount.kill()
        volume_mount.mount()
        for earlier in range(turn + 1):
            assert (root / f"file-{earlier}").read_bytes() == content(earlier)
            names = {f"file-{number}" for number in range(earlier + 1)}
            assert set(os.listdir(root / ".snapshots" / f"s{earlier}")) == names
    volume_mount.unmount()
    volume_mount.fsck()


def test_a_synced_mapping_survives_the_kill(volume_mount: MountedVolume) -> None:
    source = """
import mmap, os
descriptor = os.open("file", os.O_CREAT | os.O_RDWR)
os.ftruncate(descriptor, 100000)
mapping = mmap.mmap(descriptor, 100000)
mapping[50000:50006] = b"mapped"
mapping.flush()
print("synced", flush=True)
input()
os._exit(0)
"""
    with Child(source, cwd=volume_mount.path) as child:
        assert child.hear() == "synced"
        volume_mount.kill()
    volume_mount.mount()
    with opened(volume_mount.path / "file") as descriptor:
        assert os.pread(descriptor, 8, 49_999) == b"\0mapped\0"
        assert os.fstat(descriptor).st_size == 100_000


def test_restores_and_drops_survive_the_kill(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    (root / "file").write_text("one")
    for name in ("a", "b", "c"):
        (root / ".snapshots" / name).mkdir()
        (root / "file").write_text(f"after {name}")
    (root / ".branches" / "kept").mkdir()
    (root / ".branches" / "dropped").mkdir()
    with opened(root / ".heliosfs" / "restore", os.O_WRONLY) as descriptor:
        os.write(descriptor, b"b")
    (root / ".snapshots" / "a").rmdir()
    os.rename(root / ".snapshots" / "c", root / ".snapshots" / "renamed")
    (root / ".branches" / "dropped").rmdir()
    volume_mount.kill()
    volume_mount.mount()
    assert (root / "file").read_text() == "after a"
    assert sorted(os.listdir(root / ".snapshots")) == ["b", "renamed"]
    assert os.listdir(root / ".branches") == ["kept"]
    assert (root / ".branches" / "kept" / "file").read_text() == "after c"
    with opened(root / ".heliosfs" / "undo", os.O_WRONLY) as descriptor:
        os.write(descriptor, b"\n")
    assert (root / "file").read_text() in ("after c", "after a")

"""A store on a disk that gets full: writers are told at write, nothing acknowledged is lost, and it can be got out of.

The disk is a tmpfs of fixed size, or an ext4 on a loop device, that the test mounts, so it needs root.
HELIOSFS_TEST_DISKS=tmpfs,ext4 has every test done on both, HELIOSFS_TEST_KILL_ROUNDS=N kills more often.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliosfs.store.store import RESERVE_BYTES

from .support import fails, mount_only, opened, root_only
from .volumes import MountedVolume, heliosfs, scratch_directory

pytestmark = [mount_only, root_only]

DISK_BYTES = 160 << 20
PIECE_BYTES = 200_000
FILES_KEPT = 10
PATIENCE_SECONDS = 60

FILLED_BYTES = (DISK_BYTES - RESERVE_BYTES) * 4 // 5
"""What fits at least: the reserve is not for writers, the database takes a little, and what was written last is held
twice until it is flushed."""

KILLS = int(os.environ.get("HELIOSFS_TEST_KILL_ROUNDS", "2"))
DISKS = os.environ.get("HELIOSFS_TEST_DISKS", "tmpfs").split(",")

EXT4_BYTES = DISK_BYTES + (12 << 20)
"""With what an ext4 of that size takes for itself, most of it its journal."""


def mount_disk(kind: str, options: str, base: Path) -> str:
    """Mount a disk at BASE/store; why that cannot be, or nothing."""
    if kind == "tmpfs":
        words = ["-t", "tmpfs", "-o", options, "tmpfs"]
    else:
        image = base / "image"
        image.touch()
        os.truncate(image, EXT4_BYTES)
        if shutil.which("mkfs.ext4") is None:
            return "there is no mkfs.ext4"
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True, capture_output=True)
        words = ["-t", "ext4", "-o", "loop", str(image)]
    done = subprocess.run(["mount", *words, str(base / "store")], capture_output=True, check=False)
    if done.returncode == 0 and kind == "ext4":
        (base / "store" / "lost+found").rmdir()
    return done.stderr.decode(errors="replace").strip() if done.returncode else ""


@contextlib.contextmanager
def on_small_disk(options: str, kind: str = "tmpfs") -> Iterator[MountedVolume]:
    with scratch_directory() as base:
        (base / "store").mkdir()
        if refused := mount_disk(kind, options, base):
            pytest.skip(f"no {kind} can be mounted here: {refused}")
        volume = MountedVolume(base)
        try:
            volume.mount()
            yield volume
            if volume.process != -1:
                volume.unmount()
            volume.fsck()
        except BaseException:
            with contextlib.suppress(OSError):  # there is none yet when the mount itself failed
                print((volume.store / "log" / "heliosfs.log").read_text()[-10_000:])
            raise
        finally:
            try:
                if volume.process != -1:
                    volume.kill()
            finally:
                subprocess.run(["umount", "-l", str(base / "store")], check=False)


@pytest.fixture(params=DISKS)
def small(request: pytest.FixtureRequest) -> Iterator[MountedVolume]:
    """Without states that are kept by themselves, which would hold what a test deletes when it takes long."""
    with on_small_disk(f"size={DISK_BYTES}", request.param) as volume:
        heliosfs("config", volume.path, "auto.interval", "off")
        yield volume


every_disk = pytest.mark.parametrize("small", ["tmpfs", "ext4"], indirect=True)


def stored_bytes(volume: MountedVolume) -> int:
    """What content takes on the disk, in packs and in the journal, mounted or not."""
    total = 0
    for file in (*(volume.store / "packs").iterdir(), *(volume.store / "journal").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_blocks * 512
    return total


class Acknowledged:
    """What every call that returned has put into files of random bytes."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.contents: dict[str, bytes] = {}
        self.in_doubt = ""
        """The file that was deleted last."""
        self._random = random.Random(seed)

    def fill(self, prefix: str, limit: int = 10_000) -> int:
        """Write files until the disk is full; how many pieces were acknowledged in this call."""
        pieces = 0
        for number in range(limit):
            name = f"{prefix}{number}"
            try:
                descriptor = os.open(self.root / name, os.O_CREAT | os.O_WRONLY | os.O_EXCL)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
                return pieces
            self.contents[name] = b""
            try:
                for _ in range(5):
                    piece = self._random.randbytes(PIECE_BYTES)
                    try:
                        written = os.write(descriptor, piece)
                    except OSError as error:
                        assert error.errno == errno.ENOSPC, error
                        return pieces
                    self.contents[name] += piece[:written]
                    pieces += 1
                    if written < PIECE_BYTES:
                        return pieces
            finally:
                os.close(descriptor)
        raise AssertionError("the disk did not get full")

    def delete(self, share: float) -> None:
        for name in sorted(self.contents):
            if self._random.random() < share:
                self.in_doubt = name
                (self.root / name).unlink()
                del self.contents[name]

    def check(self) -> None:
        assert set(os.listdir(self.root)) == set(self.contents)
        for name, content in self.contents.items():
            found = (self.root / name).read_bytes()
            assert found == content, f"{name}: {len(found)} bytes for {len(content)}"


@every_disk
def test_writers_are_told_and_nothing_is_lost(small: MountedVolume) -> None:
    known = Acknowledged(small.path, 1)
    assert known.fill("a") * PIECE_BYTES > FILLED_BYTES
    assert os.statvfs(small.path).f_bavail * os.statvfs(small.path).f_frsize < 2_000_000
    assert any("the disk is full" in trouble for trouble in small.call("status")["troubles"])
    known.check()
    with opened(small.path / "a0") as descriptor:
        os.fsync(descriptor)
    small.kill()
    small.mount()
    known.check()
    small.unmount()
    small.fsck()
    small.mount()
    known.check()


@every_disk
def test_one_large_file_fills_the_disk(small: MountedVolume) -> None:
    """It is open all the time, which the cutter leaves alone otherwise."""
    source = random.Random(8)
    written = 0
    with open(small.path / "large", "wb", buffering=0) as file, fails(errno.ENOSPC):
        while True:
            written += file.write(source.randbytes(1 << 20))
    assert written > FILLED_BYTES
    source = random.Random(8)
    with open(small.path / "large", "rb") as file:
        for _ in range(written >> 20):
            assert file.read(1 << 20) == source.randbytes(1 << 20)
    assert not small.call("stats")["faults"]["corruptions"]


def test_what_can_be_compressed_may_be_larger_than_the_disk(small: MountedVolume) -> None:
    lines = b"".join(b"%08d the same words on every line\n" % number for number in range(25_000))
    for number in range(400):
        (small.path / f"f{number}").write_bytes(b"%d\n" % number + lines)
    assert len(lines) * 400 > 2 * DISK_BYTES
    for number in range(0, 400, 50):
        assert (small.path / f"f{number}").read_bytes() == b"%d\n" % number + lines


def test_deleting_gives_space_back_while_it_is_full(small: MountedVolume) -> None:
    known = Acknowledged(small.path, 2)
    known.fill("a")
    for turn in range(2):
        before = stored_bytes(small)
        known.delete(0.7)
        heliosfs("gc", small.path)
        known.check()
        assert stored_bytes(small) < before - DISK_BYTES / 16, turn
        assert known.fill(f"b{turn}-") * PIECE_BYTES > DISK_BYTES / 16, turn
        known.check()
    known.delete(1)
    heliosfs("gc", small.path)
    assert known.fill("c") * PIECE_BYTES > DISK_BYTES / 16
    known.check()


def test_what_is_deleted_is_room_again_soon(small: MountedVolume) -> None:
    """Without anybody asking for a collection."""
    known = Acknowledged(small.path, 9)
    known.fill("a")
    known.delete(0.7)
    for turn in range(PATIENCE_SECONDS * 10):
        if known.fill(f"b{turn}-") * PIECE_BYTES > DISK_BYTES / 16:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("there is no more room than before")
    known.check()


def test_dropped_snapshots_give_space_back_while_it_is_full(small: MountedVolume) -> None:
    known = Acknowledged(small.path, 3)
    for number in range(12):
        (small.path / f"s{number}").write_bytes(random.Random(number).randbytes(1_000_000))
    (small.path / ".snapshots" / "s").mkdir()
    for number in range(12):
        (small.path / f"s{number}").unlink()
    known.fill("a")
    before = stored_bytes(small)
    (small.path / ".snapshots" / "s").rmdir()
    # On a busy machine what was written last is still to be cut, and first takes what is freed.
    for _ in range(PATIENCE_SECONDS):
        heliosfs("gc", small.path, "--keep-undo", "0")
        if stored_bytes(small) < before - 8_000_000:
            break
        time.sleep(1)
    else:
        raise AssertionError(f"{before} bytes before, {stored_bytes(small)} after")
    known.check()
    # What was freed, less what the reserve and the journal take of it first.
    assert known.fill("b") * PIECE_BYTES > 3_000_000
    known.check()


def test_states_that_were_kept_by_themselves_go_first(small: MountedVolume) -> None:
    heliosfs("config", small.path, "auto.interval", "1s")
    for number in range(70):
        (small.path / f"s{number}").write_bytes(random.Random(number).randbytes(1_000_000))
    while not os.listdir(small.path / ".snapshots" / ".auto"):
        (small.path / "change").touch()
        time.sleep(0.1)
    heliosfs("config", small.path, "auto.interval", "off")
    for name in os.listdir(small.path):
        (small.path / name).unlink()
    known = Acknowledged(small.path, 6)
    # A flush may make room without them at first: then they stay until that is used up too.
    for turn in range(10):
        known.fill(f"a{turn}-")
        heliosfs("gc", small.path, "--keep-undo", "1")
        if not os.listdir(small.path / ".snapshots" / ".auto"):
            break
    else:
        raise AssertionError("the states of a full disk are still there")
    known.fill("b")
    assert sum(map(len, known.contents.values())) > DISK_BYTES / 2, "what they held is used again"
    known.check()


def write_until_it_ends(known: Acknowledged, prefix: str) -> None:
    """Fill, delete a third, fill again, until the mount is dead."""
    for turn in range(1_000_000):
        try:
            known.fill(f"{prefix}{turn}-")
            if len(known.contents) > FILES_KEPT:  # what is deleted is room only after a collection
                known.delete(0.3)
        except (OSError, AssertionError):
            return


@every_disk
def test_kills_while_several_fill_it(small: MountedVolume) -> None:
    for turn in range(KILLS):
        writers = [Acknowledged(small.path, number) for number in range(3)]
        threads = [
            threading.Thread(target=write_until_it_ends, args=(known, f"{turn}-{number}-"))
            for number, known in enumerate(writers)
        ]
        for thread in threads:
            thread.start()
        time.sleep(random.Random(turn).uniform(0.3, 2.5))
        small.kill(detach=False)
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        small.detach()
        small.mount()
        assert any(known.contents for known in writers)
        for known in writers:
            for name, content in known.contents.items():
                path = small.path / name
                # What a call was doing when the kill came: a piece more, or a file less.
                if path.exists() or name != known.in_doubt:
                    assert path.read_bytes()[: len(content)] == content, name
        for name in os.listdir(small.path):
            (small.path / name).unlink()
        heliosfs("gc", small.path, "--keep-undo", "0")
    known = Acknowledged(small.path, 7)
    assert known.fill("last") * PIECE_BYTES > FILLED_BYTES
    known.check()


@every_disk
def test_full_when_it_is_killed_and_cleaned_up_unmounted(small: MountedVolume) -> None:
    known = Acknowledged(small.path, 4)
    known.fill("a")
    before = stored_bytes(small)
    known.delete(0.8)
    small.kill()
    heliosfs("gc", small.store)
    assert stored_bytes(small) < before - DISK_BYTES / 16
    small.mount()
    known.check()
    assert known.fill("b") * PIECE_BYTES > DISK_BYTES / 16
    known.check()


def test_snapshots_branches_and_restores_of_a_full_volume(small: MountedVolume) -> None:
    """Each works or is refused as a whole; removing always works."""
    known = Acknowledged(small.path, 5)
    (small.path / ".snapshots" / "before").mkdir()
    (small.path / ".branches" / "b").mkdir()
    known.fill("a")
    (small.path / ".branches" / "b").rmdir()
    (small.path / ".snapshots" / "before").rmdir()
    for number in range(2000):
        try:
            (small.path / ".snapshots" / f"n{number}").mkdir()
        except OSError as error:
            assert error.errno == errno.ENOSPC
            break
    known.check()
    names = os.listdir(small.path / ".snapshots")
    small.kill()
    small.mount()
    known.check()
    assert sorted(os.listdir(small.path / ".snapshots")) == sorted(names)
    for name in names:
        (small.path / ".snapshots" / name).rmdir()
    known.delete(0.5)
    heliosfs("gc", small.path, "--keep-undo", "0")
    known.check()


def test_out_of_inodes() -> None:
    """The store needs few files of its own; when it cannot make one the writer is told."""
    with on_small_disk("size=512m,nr_inodes=60") as volume:
        spare = volume.store / "log"
        made = []
        try:
            for number in range(100):
                path = spare / f"spare{number}"
                path.touch()
                made.append(path)
        except OSError as error:
            assert error.errno == errno.ENOSPC
        contents = {}
        with fails(errno.ENOSPC):
            for number in range(200):
                data = random.Random(number).randbytes(1_000_000)
                (volume.path / f"f{number}").write_bytes(data)
                contents[f"f{number}"] = data
        assert len(contents) > 10, "up to the end of the journal's segment"
        for path in made:
            path.unlink()
        (volume.path / "more").write_bytes(b"more")
        for name, data in contents.items():
            assert (volume.path / name).read_bytes() == data
        volume.kill()
        volume.mount()
        for name, data in contents.items():
            assert (volume.path / name).read_bytes() == data
        assert (volume.path / "more").read_bytes() == b"more"


def test_out_of_file_descriptors() -> None:
    """A daemon that can open no file any more goes on with those that it has, and recovers."""
    with scratch_directory() as base:
        volume = MountedVolume(base)
        try:
            volume.mount()
            root = volume.path
            (root / "before").write_bytes(b"before")
            limits = resource.prlimit(volume.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(volume.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
            contents = {}
            told = 0
            for number in range(60):
                data = random.Random(number).randbytes(1_000_000)
                try:
                    (root / f"f{number}").write_bytes(data)
                    contents[f"f{number}"] = data
                except OSError as error:
                    assert error.errno in (errno.EIO, errno.EMFILE, errno.ENFILE), error
                    told += 1
            assert told and len(contents) > 10
            with opened(root / "before") as descriptor, contextlib.suppress(OSError):
                os.fsync(descriptor)
            resource.prlimit(volume.pid, resource.RLIMIT_NOFILE, limits)
            (root / "after").write_bytes(b"after")
            for name, data in contents.items():
                assert (root / name).read_bytes() == data
            with opened(root / "after") as descriptor:
                os.fsync(descriptor)
            volume.kill()
            volume.mount()
            for name, data in contents.items():
                assert (root / name).read_bytes() == data
            assert (root / "after").read_bytes() == b"after"
            volume.unmount()
            volume.fsck()
        finally:
            volume.close()

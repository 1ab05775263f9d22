"""Files: opening, reading, writing, appending, truncating, holes, mapping, unlinking, copying, executing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import Child, fails, link_open_file, on_host, opened, root_only, run, tool, umask, user

MIB = 1 << 20
GIB = 1 << 30


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


# Opening


def test_exclusive_creation(tree: Path) -> None:
    path = tree / "file"
    with opened(path, os.O_CREAT | os.O_EXCL | os.O_RDWR):
        pass
    with fails(errno.EEXIST):
        os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    (tree / "dangling").symlink_to("nowhere")
    with fails(errno.EEXIST):
        os.open(tree / "dangling", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    assert not (tree / "nowhere").exists()


def test_only_one_of_many_creates_exclusively(tree: Path) -> None:
    source = """
import os, sys
won = 0
input()
for number in range(200):
    try:
        os.close(os.open(f"lock-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        won += 1
    except FileExistsError:
        pass
print(won)
"""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(source, cwd=tree)) for _ in range(3)]
        for child in children:
            child.say("go")
        assert sum(int(child.finish()) for child in children) == 200


def test_opening_for_what_it_is(tree: Path) -> None:
    (tree / "directory").mkdir()
    (tree / "file").write_text("content")
    with fails(errno.EISDIR):
        os.open(tree / "directory", os.O_WRONLY)
    with fails(errno.EISDIR):
        os.open(tree / "directory", os.O_RDONLY | os.O_CREAT)
    with fails(errno.ENOTDIR):
        os.open(tree / "file", os.O_RDONLY | os.O_DIRECTORY)
    with fails(errno.ENOENT):
        os.open(tree / "missing", os.O_RDWR)
    with opened(tree / "directory") as descriptor, fails(errno.EISDIR):
        os.read(descriptor, 1)


def test_a_descriptor_allows_what_it_was_opened_for(tree: Path) -> None:
    path = tree / "file"
    path.write_text("content")
    with opened(path, os.O_RDONLY) as descriptor:
        with fails(errno.EBADF):
            os.write(descriptor, b"x")
        with fails(errno.EINVAL, errno.EBADF):
            os.ftruncate(descriptor, 0)
    with opened(path, os.O_WRONLY) as descriptor, fails(errno.EBADF):
        os.read(descriptor, 1)
    with opened(path, os.O_PATH) as descriptor:
        assert os.fstat(descriptor).st_size == 7
        with fails(errno.EBADF):
            os.read(descriptor, 1)


def test_a_new_file_without_permissions_is_writable_to_its_maker(tree: Path) -> None:
    with opened(tree / "file", os.O_CREAT | os.O_RDWR, 0) as descriptor:
        os.write(descriptor, b"content")
        assert os.pread(descriptor, 7, 0) == b"content"
    assert stat.S_IMODE((tree / "file").stat().st_mode) == 0


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_the_umask_is_applied(tree: Path, mask: int) -> None:
    with umask(mask):
        with opened(tree / "file", os.O_CREAT | os.O_RDWR, 0o777):
            pass
        os.mkdir(tree / "directory", 0o777)
        os.mkfifo(tree / "fifo", 0o666)
    assert stat.S_IMODE((tree / "file").stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((tree / "directory").stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((tree / "fifo").stat().st_mode) == 0o666 & ~mask


def test_truncation_on_open(tree: Path) -> None:
    path = tree / "file"
    path.write_bytes(noise(300_000))
    with opened(path, os.O_RDONLY) as reader, opened(path, os.O_WRONLY | os.O_TRUNC) as writer:
        assert os.fstat(reader).st_size == 0
        assert os.pread(reader, 10, 0) == b""
        os.write(writer, b"new")
        assert os.pread(reader, 10, 0) == b"new"
    with opened(path, os.O_CREAT | os.O_WRONLY):
        assert path.read_bytes() == b"new"


def test_temporary_files_without_a_name_fall_back(tree: Path) -> None:
    try:
        os.close(os.open(tree, os.O_TMPFILE | os.O_RDWR))
    except OSError as error:
        assert not on_host
        assert error.errno == errno.EOPNOTSUPP
    with tempfile.TemporaryFile(dir=tree) as file, tempfile.SpooledTemporaryFile(max_size=1, dir=tree) as spooled:
        for stream in (file, spooled):
            stream.write(b"content")
            stream.seek(0)
            assert stream.read() == b"content"
            assert os.fstat(stream.fileno()).st_nlink == 0
    assert os.listdir(tree) == []


# Reading and writing


@pytest.mark.parametrize("size", [0, 1, 100, 4095, 4096, 4097, 65535, 131072, 131073, 5 * MIB + 17])
def test_what_is_written_is_read(tree: Path, size: int) -> None:
    content = noise(size, size)
    path = tree / "file"
    path.write_bytes(content)
    assert path.stat().st_size == size
    assert path.read_bytes() == content
    with opened(path) as descriptor:
        parts = []
        while part := os.read(descriptor, 7919):
            parts.append(part)
        assert b"".join(parts) == content
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(descriptor, size + 1, 0) == content


def test_writing_and_reading_beyond_the_end(tree: Path) -> None:
    with opened(tree / "file", os.O_CREAT | os.O_RDWR) as descriptor:
        assert os.pread(descriptor, 100, 0) == b""
        assert os.pread(descriptor, 100, 10 * MIB) == b""
        assert os.pwrite(descriptor, b"start", 0) == 5
        assert os.pwrite(descriptor, b"far", 3 * MIB) == 3
        assert os.fstat(descriptor).st_size == 3 * MIB + 3
        assert os.pread(descriptor, 100, 3 * MIB) == b"far"
        assert os.pread(descriptor, 4 * MIB, 0) == b"start" + bytes(3 * MIB - 5) + b"far"
        assert os.pread(descriptor, 100, 3 * MIB + 3) == b""
        assert os.pwrite(descriptor, b"", 9 * MIB) == 0
        assert os.fstat(descriptor).st_size == 3 * MIB + 3
        with fails(errno.EINVAL):
            os.pread(descriptor, 1, -1)


def test_vectored_calls(tree: Path) -> None:
    with opened(tree / "file", os.O_CREAT | os.O_RDWR) as descriptor:
        assert os.writev(descriptor, [b"one", b"", b"two" * 5000]) == 15003
        buffers = [bytearray(3), bytearray(15000)]
        assert os.preadv(descriptor, buffers, 0) == 15003
        assert bytes(buffers[0]) == b"one"
        assert bytes(buffers[1]) == b"two" * 5000
        assert os.pwritev(descriptor, [b"A", b"B"], 1) == 2
        assert os.pread(descriptor, 4, 0) == b"oABt"


@pytest.mark.parametrize("seed", range(4))
def test_random_writes_and_truncations_agree_with_a_model(tree: Path, seed: int) -> None:
    choose = random.Random(seed)
    model = bytearray()
    limit = choose.choice([20_000, 400_000, 3 * MIB])
    with opened(tree / "file", os.O_CREAT | os.O_RDWR) as one, opened(tree / "file", os.O_RDWR) as two:
        for _ in range(150):
            descriptor = choose.choice((one, two))
            offset = choose.randrange(limit)
            size = choose.choice((1, 100, 4096, choose.randrange(limit // 4 + 1)))
            action = choose.randrange(10)
            if action < 5:
                data = choose.randbytes(size)
                os.pwrite(descriptor, data, offset)
                model.extend(bytes(max(0, offset - len(model))))
                model[offset : offset + size] = data
            elif action < 7:
                os.ftruncate(descriptor, offset)
                del model[offset:]
                model.extend(bytes(max(0, offset - len(model))))
            else:
                assert os.pread(descriptor, size, offset) == bytes(model[offset : offset + size])
            assert os.fstat(one).st_size == len(model)
    assert (tree / "file").read_bytes() == bytes(model)


def test_appending_from_many_writers(tree: Path) -> None:
    source = """
import os, sys
writer = int(sys.argv[1])
descriptor = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
input()
for number in range(150):
    line = f"{writer} {number} ".encode()
    os.write(descriptor, line + b"x" * (number * 13 % 700) + b"\\n")
"""
    writers = 4
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(source, str(number), cwd=tree)) for number in range(writers)]
        for child in children:
            child.say("go")
        for child in children:
            child.finish()
    seen: dict[int, int] = dict.fromkeys(range(writers), 0)
    for line in (tree / "log").read_text().splitlines():
        writer, number, filling = line.split(" ")
        assert int(number) == seen[int(writer)]
        assert filling == "x" * (int(number) * 13 % 700)
        seen[int(writer)] += 1
    assert seen == dict.fromkeys(range(writers), 150)


def test_appending_descriptors_ignore_their_offset(tree: Path) -> None:
    path = tree / "file"
    path.write_bytes(b"start ")
    with opened(path, os.O_WRONLY | os.O_APPEND) as one, opened(path, os.O_RDWR | os.O_APPEND) as two:
        os.write(one, b"one ")
        os.lseek(two, 0, os.SEEK_SET)
        os.write(two, b"two ")
        os.pwrite(one, b"three", 0)  # Linux appends here as well
        os.ftruncate(two, 5)
        os.write(one, b"!")
    assert path.read_bytes() == b"start!"


# Truncation and holes


def test_truncation_both_ways(tree: Path) -> None:
    path = tree / "file"
    content = noise(200_000)
    path.write_bytes(content)
    for size in (199_999, 131_072, 70_001, 4096, 100, 1, 0):
        os.truncate(path, size)
        assert path.read_bytes() == content[:size]
    os.truncate(path, 100_000)
    assert path.read_bytes() == bytes(100_000)


def test_what_was_cut_off_comes_back_as_zeros(tree: Path) -> None:
    path = tree / "file"
    path.write_bytes(b"\xff" * 10_000)
    with opened(path, os.O_RDWR) as descriptor:
        os.ftruncate(descriptor, 5_001)
        os.ftruncate(descriptor, 9_000)
        assert os.pread(descriptor, 10_000, 0) == b"\xff" * 5_001 + bytes(3_999)
        os.ftruncate(descriptor, 100)
        os.pwrite(descriptor, b"end", 8_000)
        assert os.pread(descriptor, 10_000, 0) == b"\xff" * 100 + bytes(7_900) + b"end"


def test_what_cannot_be_truncated(tree: Path) -> None:
    (tree / "directory").mkdir()
    (tree / "file").touch()
    with fails(errno.EISDIR):
        os.truncate(tree / "directory", 0)
    with fails(errno.EINVAL):
        os.truncate(tree / "file", -1)
    with fails(errno.ENOENT):
        os.truncate(tree / "missing", 0)


def seek_ranges(descriptor: int, size: int) -> list[tuple[int, int]]:
    """The data ranges that SEEK_DATA and SEEK_HOLE tell of."""
    ranges = []
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            break
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        assert position <= start < end <= size
        ranges.append((start, end))
        position = end
    return ranges


def test_holes_read_as_zeros_and_take_no_room(tree: Path) -> None:
    path = tree / "file"
    size = 64 * MIB
    with opened(path, os.O_CREAT | os.O_RDWR) as descriptor:
        os.pwrite(descriptor, b"middle", 32 * MIB)
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
        status = os.fstat(descriptor)
        assert status.st_size == size
        assert 0 < status.st_blocks * 512 < MIB
        assert os.pread(descriptor, 100, 10 * MIB) == bytes(100)
        # Whoever cannot find the holes may call all of it data, but never the data a hole.
        assert any(start <= 32 * MIB < end for start, end in seek_ranges(descriptor, size))
        with fails(errno.ENXIO):
            os.lseek(descriptor, size, os.SEEK_DATA)
        with fails(errno.ENXIO):
            os.lseek(descriptor, size, os.SEEK_HOLE)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(MIB):
            digest.update(part)
    expected = hashlib.sha256(bytes(32 * MIB) + b"middle" + bytes(32 * MIB - 6))
    assert digest.digest() == expected.digest()


def test_filling_a_hole_takes_room(tree: Path) -> None:
    with opened(tree / "file", os.O_CREAT | os.O_RDWR) as descriptor:
        os.ftruncate(descriptor, 4 * MIB)
        assert os.fstat(descriptor).st_blocks * 512 < 64 * 1024
        os.pwrite(descriptor, noise(MIB), 2 * MIB)
        os.fsync(descriptor)
        assert MIB <= os.fstat(descriptor).st_blocks * 512 < 2 * MIB
        os.ftruncate(descriptor, 0)
        os.fsync(descriptor)
        assert os.fstat(descriptor).st_blocks == 0


def test_files_beyond_four_gibibytes(tree: Path) -> None:
    path = tree / "file"
    marks = [0, 2 * GIB - 3, 4 * GIB - 30, 4 * GIB + 5, 9 * GIB + 1, 1 << 40]
    with opened(path, os.O_CREAT | os.O_RDWR) as descriptor:
        for mark in marks:
            os.pwrite(descriptor, b"mark %d" % mark, mark)
        assert os.fstat(descriptor).st_size == (1 << 40) + len(b"mark %d" % (1 << 40))
        for mark in marks:
            expected = b"mark %d" % mark
            assert os.pread(descriptor, len(expected), mark) == expected
        assert os.pread(descriptor, 5, 4 * GIB - 35) == bytes(5)
        os.fsync(descriptor)
        assert os.fstat(descriptor).st_blocks * 512 < MIB
        os.ftruncate(descriptor, 4 * GIB + 7)
        assert os.pread(descriptor, 100, 4 * GIB + 5) == b"ma"
    assert path.stat().st_size == 4 * GIB + 7


def test_a_sparse_copy_stays_sparse(tree: Path) -> None:
    tool("cp")
    with opened(tree / "source", os.O_CREAT | os.O_RDWR) as descriptor:
        os.pwrite(descriptor, noise(MIB), 8 * MIB)
        os.ftruncate(descriptor, 16 * MIB)
    run("cp", "--sparse=always", "source", "target", cwd=tree)
    run("cmp", "source", "target", cwd=tree)
    os.sync()
    assert (tree / "target").stat().st_blocks * 512 < 3 * MIB


def test_preallocation_falls_back(tree: Path) -> None:
    with opened(tree / "file", os.O_CREAT | os.O_RDWR) as descriptor:
        os.pwrite(descriptor, b"content", 0)
        os.posix_fallocate(descriptor, 0, 300_000)
        assert os.fstat(descriptor).st_size == 300_000
        assert os.pread(descriptor, 8, 0) == b"content\0"


# Mapping


def test_a_private_mapping_changes_nothing(tree: Path) -> None:
    path = tree / "file"
    path.write_bytes(b"a" * 10_000)
    with opened(path, os.O_RDWR) as descriptor, mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE) as mapping:
        mapping[:5] = b"12345"
        assert mapping[:6] == b"12345a"
    assert path.read_bytes() == b"a" * 10_000


def test_a_shared_mapping_and_the_calls_see_each_other(tree: Path) -> None:
    path = tree / "file"
    path.write_bytes(b"a" * 10_000)
    with opened(path, os.O_RDWR) as descriptor, mmap.mmap(descriptor, 0) as mapping:
        mapping[5_000:5_004] = b"mmap"
        assert os.pread(descriptor, 6, 4_999) == b"ammapa"
        mapping.flush()
        assert path.read_bytes()[4_999:5_005] == b"ammapa"
        os.pwrite(descriptor, b"call", 8_000)
        assert mapping[7_999:8_005] == b"acalla"
    assert path.read_bytes()[4_999:5_005] == b"ammapa"
    assert path.stat().st_size == 10_000


def test_a_mapping_outlives_its_descriptor_and_its_name(tree: Path) -> None:
    path = tree / "file"
    path.write_bytes(bytes(20_000))
    os.link(path, tree / "other")
    with path.open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    path.unlink()
    mapping[12_345] = 77
    mapping.close()
    assert (tree / "other").read_bytes() == bytes(12_345) + b"\x4d" + bytes(20_000 - 12_346)


def test_a_mapping_is_shared_between_processes(tree: Path) -> None:
    (tree / "file").write_bytes(bytes(8192))
    source = """
import mmap
with open("file", "r+b") as file:
    mapping = mmap.mmap(file.fileno(), 0)
mapping[0:5] = b"child"
print("written", flush=True)
input()
print(bytes(mapping[4096:4102]).decode())
"""
    with (
        opened(tree / "file", os.O_RDWR) as descriptor,
        mmap.mmap(descriptor, 0) as mapping,
        Child(source, cwd=tree) as child,
    ):
        assert child.hear() == "written"
        assert mapping[:5] == b"child"
        mapping[4096:4102] = b"parent"
        child.say("go on")
        assert child.finish().strip() == "parent"


@contextlib.contextmanager
def long_mapping(descriptor: int) -> Iterator[mmap.mmap]:
    """Two whole pages, though the file ends inside the second (Python refuses to ask for that directly)."""
    size = os.fstat(descriptor).st_size
    os.ftruncate(descriptor, 8_192)
    with mmap.mmap(descriptor, 8_192) as mapping:
        os.ftruncate(descriptor, size)
        yield mapping


def test_a_mapping_ends_with_its_file(tree: Path) -> None:
    """The rest of the last page reads as zeros and is never written; a page beyond it gives SIGBUS."""
    path = tree / "file"
    path.write_bytes(b"a" * 5_000)
    with opened(path, os.O_RDWR) as descriptor, long_mapping(descriptor) as mapping:
        assert mapping[4_999:5_003] == b"a\0\0\0"
        mapping[6_000] = 1
        mapping.flush()
    assert path.read_bytes() == b"a" * 5_000
    os.truncate(path, 7_000)
    assert path.read_bytes() == b"a" * 5_000 + bytes(2_000)
    source = """
import mmap, os
descriptor = os.open("file", os.O_RDWR)
os.ftruncate(descriptor, 20_000)
mapping = mmap.mmap(descriptor, 0)
os.ftruncate(descriptor, 4_096)
mapping[4_095]
mapping[10_000]
"""
    result = subprocess.run([sys.executable, "-c", source], cwd=tree, check=False, timeout=300)
    assert result.returncode == -signal.SIGBUS


def test_a_mapping_grows_with_its_file(tree: Path) -> None:
    with opened(tree / "file", os.O_CREAT | os.O_RDWR) as descriptor:
        os.ftruncate(descriptor, 4096)
        with mmap.mmap(descriptor, 4096) as mapping:
            mapping[0] = 1
            os.ftruncate(descriptor, 100_000)
            mapping.resize(100_000)
            mapping[99_999] = 2
        assert os.pread(descriptor, 100_000, 0) == b"\x01" + bytes(99_998) + b"\x02"


# Files without a name


def test_an_unlinked_file_lives_until_it_is_closed(tree: Path) -> None:
    path = tree / "file"
    with opened(path, os.O_CREAT | os.O_RDWR) as descriptor:
        os.write(descriptor, b"before ")
        with opened(path) as second:
            path.unlink()
            with fails(errno.ENOENT):
                path.stat()
            os.write(descriptor, b"after")
            assert os.fstat(descriptor).st_nlink == 0
            assert os.pread(second, 100, 0) == b"before after"
            path.write_text("another")
            assert os.pread(second, 100, 0) == b"before after"
            os.ftruncate(descriptor, 3)
            assert os.fstat(second).st_size == 3
            os.fchmod(descriptor, 0o600)
            os.utime(descriptor, ns=(1, 2))
            assert os.fstat(second).st_mtime_ns == 2
            os.fsync(descriptor)
        with fails(errno.ENOENT):
            link_open_file(descriptor, tree / "revived")
        os.pwrite(descriptor, noise(MIB), 10 * MIB)
        assert os.pread(descriptor, 100, 9 * MIB) == bytes(100)
    assert path.read_text() == "another"


def test_many_unlinked_files_at_once(tree: Path) -> None:
    descriptors = []
    try:
        for number in range(200):
            descriptor = os.open(tree / "name", os.O_CREAT | os.O_EXCL | os.O_RDWR)
            descriptors.append(descriptor)
            os.unlink(tree / "name")
            os.write(descriptor, b"%d" % number)
        for number, descriptor in enumerate(descriptors):
            assert os.pread(descriptor, 10, 0) == b"%d" % number
        assert len({os.fstat(descriptor).st_ino for descriptor in descriptors}) == 200
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


# Copying and executing


def test_copying_in_the_kernel(tree: Path) -> None:
    content = noise(3 * MIB)
    (tree / "source").write_bytes(content)
    with opened(tree / "source") as source, opened(tree / "target", os.O_CREAT | os.O_RDWR) as target:
        copied = 0
        while copied < len(content):
            count = os.copy_file_range(source, target, len(content) - copied)
            assert count > 0
            copied += count
        assert os.copy_file_range(source, target, 100) == 0
    assert (tree / "target").read_bytes() == content
    with opened(tree / "source") as source, opened(tree / "sent", os.O_CREAT | os.O_WRONLY) as target:
        sent = 0
        while sent < len(content):
            sent += os.sendfile(target, source, sent, len(content) - sent)
    assert (tree / "sent").read_bytes() == content


def test_copies_into_and_out_of_the_tree(tree: Path) -> None:
    content = noise(2 * MIB)
    with tempfile.TemporaryDirectory() as outside:
        (Path(outside) / "file").write_bytes(content)
        shutil.copy2(Path(outside) / "file", tree / "file")
        shutil.copy2(tree / "file", Path(outside) / "back")
        assert (Path(outside) / "back").read_bytes() == content
        assert (Path(outside) / "back").stat().st_mtime_ns == (tree / "file").stat().st_mtime_ns


def test_reflinks_fall_back(tree: Path) -> None:
    tool("cp")
    (tree / "source").write_bytes(noise(100_000))
    run("cp", "--reflink=auto", "--preserve=all", "source", "target", cwd=tree)
    assert (tree / "target").read_bytes() == noise(100_000)
    ficlone = 0x40049409
    with opened(tree / "source") as source, opened(tree / "target", os.O_RDWR) as target:
        try:
            fcntl.ioctl(target, ficlone, source)
        except OSError as error:
            assert error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS)


def test_direct_and_synchronous_files(tree: Path) -> None:
    page = mmap.mmap(-1, 8192)
    page[:] = noise(8192)
    with opened(tree / "direct", os.O_CREAT | os.O_RDWR | os.O_DIRECT) as descriptor:
        assert os.writev(descriptor, [page]) == 8192
        back = mmap.mmap(-1, 8192)
        assert os.preadv(descriptor, [back], 0) == 8192
        assert back[:] == page[:]
    assert (tree / "direct").read_bytes() == noise(8192)
    for flag in (os.O_SYNC, os.O_DSYNC):
        with opened(tree / "synchronous", os.O_CREAT | os.O_WRONLY | flag) as descriptor:
            os.write(descriptor, b"content")
        assert (tree / "synchronous").read_bytes() == b"content"


def test_direct_and_cached_access_agree(tree: Path) -> None:
    page = mmap.mmap(-1, 4096)
    with (
        opened(tree / "file", os.O_CREAT | os.O_RDWR) as cached,
        opened(tree / "file", os.O_RDWR | os.O_DIRECT) as direct,
    ):
        os.pwrite(cached, b"c" * 8192, 0)
        assert os.pread(cached, 1, 4096) == b"c"
        page[:] = b"d" * 4096
        os.pwritev(direct, [page], 4096)
        assert os.pread(cached, 8192, 0) == b"c" * 4096 + b"d" * 4096
        os.pwrite(cached, b"e", 5000)
        os.preadv(direct, [page], 4096)
        assert page[:] == b"d" * 904 + b"e" + b"d" * 3191


def test_executing(tree: Path) -> None:
    binary = tree / "binary"
    shutil.copy(tool("true"), binary)
    binary.chmod(0o755)
    run(binary)
    script = tree / "script"
    script.write_text('#!/bin/sh\necho "ran with $1"\n')
    with fails(errno.EACCES):
        subprocess.run([script], check=False)
    script.chmod(0o755)
    assert run(script, "this").stdout == "ran with this\n"
    script.write_text("#!/bin/sh\necho changed\n")
    assert run(script).stdout == "changed\n"


def test_what_runs_is_not_written_and_what_is_written_does_not_run(tree: Path) -> None:
    binary = tree / "binary"
    shutil.copy(tool("cat"), binary)
    binary.chmod(0o755)
    with subprocess.Popen([binary], stdin=subprocess.PIPE):
        with fails(errno.ETXTBSY):
            os.open(binary, os.O_WRONLY)
        with fails(errno.ETXTBSY):
            os.truncate(binary, 0)
        assert binary.read_bytes() == Path(tool("cat")).read_bytes()
    with opened(binary, os.O_WRONLY), fails(errno.ETXTBSY):
        subprocess.run([binary], stdin=subprocess.DEVNULL, check=False)
    run(binary)


def test_a_running_binary_can_be_replaced(tree: Path) -> None:
    binary = tree / "binary"
    shutil.copy(tool("cat"), binary)
    binary.chmod(0o755)
    process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    shutil.copy(tool("true"), tree / "new")
    os.rename(tree / "new", binary)
    output, _ = process.communicate(b"still here", timeout=300)
    assert output == b"still here"


@root_only
def test_writing_needs_permission_once(tree: Path) -> None:
    """Rights are checked at open: a descriptor keeps them when the mode changes."""
    tree.chmod(0o777)
    with user(), opened(tree / "file", os.O_CREAT | os.O_RDWR, 0o600) as descriptor:
        os.fchmod(descriptor, 0)
        os.write(descriptor, b"content")
        assert os.pread(descriptor, 7, 0) == b"content"
        with fails(errno.EACCES):
            os.open(tree / "file", os.O_RDONLY)

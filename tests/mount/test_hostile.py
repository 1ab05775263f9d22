"""Input that means harm, or is only careless: the mount refuses it, or stands it, and goes on for everyone else."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import Child, fails, mount_only, opened, root_only, user, wait_until
from .volumes import MountedVolume, heliosfs

pytestmark = mount_only

EVIL = [b"new\nline", b"\x1b[2J\x1b]0;owned\x07", b"tab\there", b"\xff\xfe", b"-rf", b"a\rb", "\u202egnp.exe".encode()]
"""Names that a terminal or a script could take for something else."""


@pytest.fixture
def root(volume: MountedVolume) -> Iterator[Path]:
    """A mount that others use as well; afterwards it is the same process, which made no mistake."""
    yield volume.path
    status = json.loads((volume.path / ".heliosfs" / "status").read_text())
    assert status["pid"] == volume.pid
    assert volume.call("stats")["faults"]["mistakes"] == 0


def test_names_cannot_fool_a_terminal(root: Path) -> None:
    place = os.fsencode(root)
    for name in EVIL:
        with open(place + b"/" + name, "wb") as file:
            file.write(b"1\n")
        os.mkdir(place + b"/.snapshots/" + name)
        os.mkdir(place + b"/.branches/" + name)
        with open(place + b"/" + name, "wb") as file:
            file.write(b"2\n")
    said = "".join([
        heliosfs("snapshot", "list", root), heliosfs("branch", "list", root), heliosfs("log", root),
        heliosfs("status", root), heliosfs("changes", root, "--", "-rf"),
        heliosfs("changes", root, os.fsdecode(EVIL[1])),
        heliosfs("diff", root, os.fsdecode(EVIL[0])), heliosfs("snapshot", "show", root, os.fsdecode(EVIL[1])),
        (root / ".heliosfs" / "log").read_text(errors="surrogateescape"),
    ])  # fmt: skip
    for control in ("\x1b", "\x07", "\r", "\u202e", "\udcff"):
        assert control not in said, ascii(control)
    for name in EVIL:
        os.unlink(place + b"/" + name)
        os.rmdir(place + b"/.snapshots/" + name)
        os.rmdir(place + b"/.branches/" + name)


def test_paths_do_not_lead_out(root: Path) -> None:
    """Dots, links and made-up names: nothing above a root, and no tree in another's clothes."""
    (root / "secret").write_text("of the root")
    (root / ".branches" / "b").mkdir()
    branch = root / ".branches" / "b"
    (branch / ".snapshots" / "s").mkdir()
    (branch / "up").symlink_to("../../secret")
    (branch / "magic").symlink_to(".snapshots/../.branches/../.heliosfs/status")
    assert (branch / ".snapshots" / ".." / "secret").read_text() == "of the root", "its own, which it was forked with"
    assert json.loads((branch / "magic").read_text())["branch"] == "b"
    for name in ("..", ".", "a/b", "", "x" * 256, "a\0b"):
        with pytest.raises((OSError, ValueError)):
            os.mkdir(os.fsencode(branch) + b"/.snapshots/" + name.encode())
    for name in ("../main", "..", "/", "b@", "@", "op:99999999999999999999", "\0", "x" * 5000, "../../secret"):
        for verb in ("restore", "merge"):
            refused = fails(errno.ENOENT, errno.EINVAL, errno.ENAMETOOLONG, errno.E2BIG)
            with refused, opened(branch / ".heliosfs" / verb, os.O_WRONLY) as descriptor:
                os.write(descriptor, name.encode())
    with fails(errno.ENOENT, errno.EINVAL, errno.ENAMETOOLONG):
        (branch / ".heliosfs" / "diff" / "..secret").read_text()
    (branch / ".snapshots" / "s").rmdir()
    branch.rmdir()
    (root / "secret").unlink()


@root_only
def test_a_confined_process_stays_below_its_branch(root: Path) -> None:
    """Bind-mounted, a branch is all there is: neither dots nor verbs nor handles lead above it."""
    (root / "above").write_text("above")
    (root / ".branches" / "cell").mkdir()
    cell = root / ".branches" / "cell"
    (cell / "above").unlink()
    program = """
import json, os, sys
os.chdir("/mnt")
assert not os.path.exists("above") and not os.path.exists("../mnt/above")
assert sorted(os.listdir(".branches")) == []
for path in (".branches/cell", ".branches/../above", ".snapshots/../above", ".heliosfs/../../above"):
    assert not os.path.exists(path), path
with open(".heliosfs/status") as file:
    told = json.load(file)
assert told["branch"] == "cell", told
for name in (b"main", b"..", b"../..", b"op:1"):
    try:
        with open(".heliosfs/restore", "wb", buffering=0) as file:
            file.write(name)
    except OSError as error:
        continue
    raise SystemExit(f"restored {name}")
os.mkdir(".snapshots/mine")
print("confined")
"""
    script = 'mount --bind "$1" /mnt && cd / && exec "$2" -c "$3"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(cell), sys.executable, program],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "confined\n", done.stderr
    assert os.listdir(cell / ".snapshots") == ["mine"]
    (cell / ".snapshots" / "mine").rmdir()
    cell.rmdir()
    (root / "above").unlink()


@root_only
def test_permissions_hold_in_every_view(root: Path) -> None:
    (root / "private").write_text("mine")
    (root / "private").chmod(0o600)
    (root / "closed").mkdir(0o700)
    (root / "closed" / "file").write_text("mine")
    (root / ".snapshots" / "s").mkdir()
    (root / ".branches" / "b").mkdir()
    for tree in (root, root / ".snapshots" / "s", root / ".branches" / "b", root / ".branches" / "b"):
        with user():
            with fails(errno.EACCES):
                (tree / "private").read_text()
            with fails(errno.EACCES):
                (tree / "closed" / "file").stat()
            with fails(errno.EACCES, errno.EPERM, errno.EROFS):
                (tree / "private").chmod(0o644)
            for verb in ("restore", "undo", "merge"):
                refused = fails(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
                with refused, opened(tree / ".heliosfs" / verb, os.O_WRONLY) as descriptor:
                    os.write(descriptor, b"s")
            for name in ("made", ".snapshots/made", ".branches/made"):
                with fails(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
                    (tree / name).mkdir()
    (root / ".snapshots" / "s").rmdir()
    (root / ".branches" / "b").rmdir()


def test_requests_that_are_none(volume: MountedVolume, root: Path) -> None:
    chance = random.Random(1)
    requests = [
        b"", b"{", b"[]", b"null", b'"x"', b'{"verb": 1}', b'{"verb": "\\u0000"}',
        b'{"verb": "status", "arguments": []}',
        b'{"verb": "restore", "arguments": {"state": {"a": [1]}}}', b'{"verb": "log", "arguments": {"limit": -1}}',
        b'{"verb": "diff", "arguments": {"from": 1, "to": null}}',
        b'{"verb": "gc", "arguments": {"keep_undo_seconds": "x"}}',
        b'{"verb": "gc", "arguments": {"keep_undo_seconds": 1e308}}',
        b'{"verb": "gc", "arguments": {"keep_undo_seconds": NaN}}',
        b'{"verb": "status", "arguments": {"x": ' + b"[" * 5000 + b"]" * 5000 + b"}}", b'{"verb": "__class__"}',
        b'{"verb": "snapshot.create", "arguments": {"name": "a/b"}}', b"[" * 100_000,
        b'{"verb": "status", "arguments": {"x": ' + b"9" * 100_000 + b"}}", b"\xff" * 1000, bytes(5000),
        *(chance.randbytes(chance.choice([1, 100, 100_000])) for _ in range(20)),
    ]  # fmt: skip
    for request in requests:
        with opened(root / ".heliosfs" / "call", os.O_RDWR) as descriptor, contextlib.suppress(OSError):
            os.write(descriptor, request)
            answer = os.read(descriptor, 1 << 20)
            if answer and request != b"":
                assert json.loads(answer)["ok"] in (False, True)
    for verb in ("restore", "undo", "merge"):
        for request in (b"\xff" * 4000, bytes(100), b"9" * 4000):
            refused = fails(errno.ENOENT, errno.EINVAL)
            with refused, opened(root / ".heliosfs" / verb, os.O_WRONLY) as descriptor:
                os.write(descriptor, request)
    assert volume.call("status")["pid"] == volume.pid


def test_clients_that_die_in_the_middle(root: Path) -> None:
    """Killed between and during requests of all kinds, with files open, unlinked, locked and mapped."""
    source = """
import fcntl, mmap, os, random, sys
home = sys.argv[1]
os.makedirs(home, exist_ok=True)
print("begun", flush=True)
number = 0
while True:
    number += 1
    descriptor = os.open(f"{home}/{number % 9}", os.O_CREAT | os.O_RDWR)
    os.ftruncate(descriptor, 300_000)
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    mapping = mmap.mmap(descriptor, 300_000)
    mapping[number % 1000 : number % 1000 + 5] = b"mapped"[:5]
    os.pwrite(descriptor, bytes(200_000), 0)
    os.rename(f"{home}/{number % 9}", f"{home}/{number % 5}-moved")
    if number % 3 == 0:
        os.fsync(descriptor)
    with open(".heliosfs/call", "r+b", buffering=0) as call:
        call.write(b'{"verb": "status", "arguments": {}}')
    if number % 7 == 0:
        os.unlink(f"{home}/{number % 5}-moved")
"""
    chance = random.Random(2)
    for turn in range(4):
        with contextlib.ExitStack() as stack:
            children = [stack.enter_context(Child(source, f"home-{turn}-{n}", cwd=root)) for n in range(3)]
            for child in children:
                assert child.hear() == "begun"
            for _ in range(chance.randrange(20)):
                (root / "beside").write_text("goes on")
            for child in children:
                child.process.send_signal(signal.SIGKILL)
        # Their locks are free again, and what they left can be used and removed.
        for path in root.glob(f"home-{turn}-*/*"):
            with opened(path, os.O_RDWR) as descriptor:
                os.lockf(descriptor, os.F_TLOCK, 0)
            path.unlink()


def test_ten_thousand_open_files(root: Path) -> None:
    """From a few processes; each costs the daemon some memory and no descriptor."""
    each = 2500
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < each + 100:
        pytest.skip(f"a process may open {hard} files here")
    source = """
import os, resource, sys
each, home = int(sys.argv[1]), sys.argv[2]
resource.setrlimit(resource.RLIMIT_NOFILE, (each + 50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.mkdir(home)
files = [os.open(f"{home}/{number}", os.O_CREAT | os.O_RDWR) for number in range(each)]
for number, file in enumerate(files):
    os.write(file, b"%d" % number)
print("open", flush=True)
input()
for number, file in enumerate(files):
    assert os.pread(file, 10, 0) == b"%d" % number
print("read", flush=True)
"""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(source, str(each), f"many-{n}", cwd=root)) for n in range(4)]
        for child in children:
            assert child.hear() == "open"
        (root / ".snapshots" / "while-open").mkdir()
        for child in children:
            child.say("go on")
            assert child.hear() == "read"
            child.finish()
    assert (root / ".snapshots" / "while-open" / "many-3" / "2499").read_bytes() == b"2499"
    (root / ".snapshots" / "while-open").rmdir()


@root_only
def test_a_storm_of_forgets(volume: MountedVolume, root: Path) -> None:
    """The kernel drops many thousand inodes at once; the daemon lets them go and finds them again."""
    home = root / "storm"
    for directory in range(20):
        (home / str(directory)).mkdir(parents=True)
        for number in range(150):
            (home / str(directory) / str(number)).touch()
    before = volume.call("stats")["inodes_in_memory"]
    assert before > 3000

    def dropped() -> bool:
        Path("/proc/sys/vm/drop_caches").write_text("2")
        return int(volume.call("stats")["inodes_in_memory"]) < before / 2

    wait_until(dropped)
    assert sum(len(files) for _, _, files in os.walk(home)) == 3000


def test_a_slow_reader_holds_nobody_up(root: Path) -> None:
    """Requests and listings that are begun and not read on."""
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            descriptor = stack.enter_context(opened(root / ".heliosfs" / "call", os.O_RDWR))
            os.write(descriptor, b'{"verb": "log", "arguments": {}}')
            os.read(descriptor, 1)
            stack.enter_context(os.scandir(root)).__next__()
        for number in range(50):
            (root / f"beside-{number}").write_text("goes on")
        (root / ".snapshots" / "beside").mkdir()
        (root / ".snapshots" / "beside").rmdir()

"""The command on real mounts: mounting, unmounting, and everything that can be in the way."""

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..mount.volumes import MountedVolume, heliosfs, mounted, scratch_directory

LONG = 300

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        not os.path.exists("/dev/fuse"), reason="there is no /dev/fuse: nothing can be mounted here"
    ),
]


@pytest.fixture
def volume() -> Iterator[MountedVolume]:
    """A fresh mount; what a test leaves behind is cleared away, and the store must be sound."""
    with mounted() as served:
        yield served


@pytest.fixture
def place() -> Iterator[MountedVolume]:
    """A store and a mountpoint of which nothing is mounted yet."""
    with scratch_directory() as base:
        served = MountedVolume(base)
        try:
            yield served
        finally:
            served.close()


def listed(mountpoint: Path) -> list[dict[str, object]]:
    everything = json.loads(heliosfs("status", "--json"))
    return [mount for mount in everything if mount["mountpoint"] == str(mountpoint)]


def test_mounting_and_unmounting(volume: MountedVolume) -> None:
    assert listed(volume.path) == [
        {"mountpoint": str(volume.path), "store": str(volume.store), "read_only": False, "alive": True}
    ]
    (volume.path / "file").write_text("content")
    volume.unmount()
    assert listed(volume.path) == []
    assert list(volume.path.iterdir()) == []
    volume.mount()
    assert (volume.path / "file").read_text() == "content"


def test_any_path_inside_will_do(volume: MountedVolume) -> None:
    deep = volume.path / "a" / "b"
    deep.mkdir(parents=True)
    heliosfs("snapshot", "create", deep, "x")
    heliosfs("branch", "create", deep, "y", "--from", "x")
    inner = volume.path / ".branches" / "y" / "a"
    heliosfs("snapshot", "create", inner, "z")
    names = [each["name"] for each in json.loads(heliosfs("snapshot", "list", volume.path, "--json"))]
    inner_names = [each["name"] for each in json.loads(heliosfs("snapshot", "list", inner, "--json"))]
    assert (names, inner_names) == (["x"], ["z"])
    assert json.loads(heliosfs("status", inner, "--json"))["branch"] == "y"


def test_a_second_mount_says_who_holds_the_store(volume: MountedVolume) -> None:
    other = volume.base / "other"
    other.mkdir()
    said = heliosfs("mount", volume.store, other, status=1)
    assert f"pid {volume.pid}" in said and str(volume.path) in said
    assert "Traceback" not in said
    assert list(other.iterdir()) == []


def test_mounting_where_something_is_mounted(volume: MountedVolume) -> None:
    said = heliosfs("mount", volume.base / "second", volume.path, status=1)
    assert f"has {volume.store} mounted already" in said
    assert not (volume.base / "second").exists()


def test_a_busy_mount_names_its_users(volume: MountedVolume) -> None:
    (volume.path / "file").touch()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print(open('file'), flush=True); sys.stdin.read()"],
        cwd=volume.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as user:
        assert user.stdout is not None and user.stdout.readline()
        said = heliosfs("umount", volume.path, status=1)
        assert f"(process {user.pid}): working directory {volume.path}" in said
        assert said.endswith(f"heliosfs umount --lazy {volume.path}\n")
        assert listed(volume.path)
        user.communicate()
    volume.unmount()


def test_unmounting_from_within(volume: MountedVolume) -> None:
    (volume.path / "a").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "heliosfs", "umount", "."],
        cwd=volume.path / "a",
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    volume._wait_for_end()


def test_a_lazy_unmount_takes_a_busy_mount_from_view(volume: MountedVolume) -> None:
    (volume.path / "file").write_text("content")
    with (volume.path / "file").open() as file:
        heliosfs("umount", "--lazy", volume.path)
        assert listed(volume.path) == []
        assert file.read() == "content"
    volume._wait_for_end()


def kill_without_cleaning(volume: MountedVolume) -> None:
    signal.pidfd_send_signal(volume.process, signal.SIGKILL)
    volume._wait_for_end()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace and a bind mount")
def test_umount_says_where_else_the_filesystem_is_mounted(place: MountedVolume) -> None:
    """A container that was started meanwhile has a copy of the mount; so has a bind mount here."""
    place.mount()
    elsewhere = place.path.parent / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "--bind", place.path, elsewhere], check=True)
    script = f"umount {elsewhere}; echo ready; read line"
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other, subprocess.Popen(
        [sys.executable, "-m", "heliosfs", "umount", place.path], stderr=subprocess.PIPE, text=True
    ) as umount:  # fmt: skip
        try:
            assert other.stdout is not None and other.stdin is not None and umount.stderr is not None
            assert other.stdout.readline() == "ready\n"
            said = [umount.stderr.readline() for _ in range(4)]
            assert "still mounted" in said[0]
            assert str(elsewhere) in said[1]
            assert f"in the mount namespace of sh (process {other.pid})" in said[2]
            assert "Waiting" in said[3]
        finally:
            subprocess.run(["umount", elsewhere], check=True)
            other.communicate("\n", timeout=LONG)
        assert umount.wait(LONG) == 0
    place._wait_for_end()


def test_a_dead_mount_is_told_and_cleared_away(place: MountedVolume) -> None:
    place.mount()
    (place.path / "file").write_text("content")
    (place.path / "also").touch()
    place.path.stat()  # so that the kernel knows the root and answers for the dead daemon
    kill_without_cleaning(place)
    assert [mount["alive"] for mount in listed(place.path)] == [False]
    said = heliosfs("log", place.path, status=1)
    assert "the daemon of this mount is gone" in said and "heliosfs umount" in said
    heliosfs("umount", place.path)
    assert listed(place.path) == []
    assert list(place.path.iterdir()) == []


def test_mounting_again_clears_a_dead_mount_away(place: MountedVolume) -> None:
    place.mount()
    (place.path / "file").write_text("content")
    (place.path / "also").touch()
    place.path.stat()  # so that the kernel knows the root and answers for the dead daemon
    kill_without_cleaning(place)
    place.mount()
    assert (place.path / "file").read_text() == "content"
    assert len(listed(place.path)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_and_leaves_everything_durable(
    volume: MountedVolume, number: signal.Signals
) -> None:
    (volume.path / "file").write_text("content")
    signal.pidfd_send_signal(volume.process, number)
    volume._wait_for_end()
    assert listed(volume.path) == []
    assert "no problems" in volume.fsck()
    volume.mount()
    assert (volume.path / "file").read_text() == "content"


def test_a_signal_takes_a_busy_mount_down_as_well(volume: MountedVolume) -> None:
    descriptor = os.open(volume.path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        signal.pidfd_send_signal(volume.process, signal.SIGTERM)
        volume._wait_for_end()
        assert listed(volume.path) == []
    finally:
        with contextlib.suppress(OSError):  # nobody is there any more who could be told
            os.close(descriptor)


def test_in_the_foreground_systemd_is_told(place: MountedVolume) -> None:
    address = str(place.base / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(LONG)
        with subprocess.Popen(
            [sys.executable, "-m", "heliosfs", "mount", "--foreground", str(place.store), str(place.path)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NOTIFY_SOCKET": address},
        ) as daemon:
            try:
                assert manager.recv(1000) == b"READY=1"
                (place.path / "file").write_text("content")
                daemon.send_signal(signal.SIGTERM)
                assert manager.recv(1000) == b"STOPPING=1"
                _, said = daemon.communicate(timeout=LONG)
            finally:
                daemon.kill()
        assert daemon.returncode == 0
        assert "INFO mounted" in said and "INFO closed" in said
        assert "Traceback" not in said
    assert listed(place.path) == []


def test_what_stops_the_daemon_is_told_by_the_command(place: MountedVolume) -> None:
    said = heliosfs("mount", "--branch", "nowhere", place.store, place.path, status=1)
    assert said.startswith("heliosfs: ") and "nowhere" in said
    assert "Traceback" not in said
    assert listed(place.path) == []


def test_a_branch_can_be_the_root(place: MountedVolume) -> None:
    place.mount()
    (place.path / "file").write_text("old")
    (place.path / ".branches" / "b").mkdir()
    (place.path / "file").write_text("new")
    place.unmount()
    place.mount("--branch", "b")
    assert (place.path / "file").read_text() == "old"
    assert json.loads(heliosfs("status", place.path, "--json"))["branch"] == "b"


def test_a_wrong_store_is_named_and_none_is_made(place: MountedVolume) -> None:
    nowhere, file = place.base / "nowhere", place.base / "file"
    file.touch()
    assert f"no store {nowhere}" in heliosfs("mount", "--branch", "b", nowhere, place.path, status=1)
    assert f"{file} is no directory" in heliosfs("mount", file, place.path, status=1)
    assert not nowhere.exists()
    place.mount()


def test_a_snapshot_takes_no_snapshot(volume: MountedVolume) -> None:
    heliosfs("snapshot", "create", volume.path, "s")
    said = heliosfs("snapshot", "create", volume.path / ".snapshots" / "s", "t", status=1)
    assert "'s' is a snapshot" in said
    heliosfs("snapshot", "delete", volume.path, "s")


def test_a_read_only_mount_changes_nothing(place: MountedVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mount()
    (place.path / "file").write_text("before\n")
    (place.path / ".snapshots" / "s").mkdir()
    (place.path / "file").write_text("content\n")
    place.unmount()
    heliosfs("mount", "--read-only", place.store, place.path)
    try:
        assert (place.path / "file").read_text() == "content\n"
        assert [mount["read_only"] for mount in listed(place.path)] == [True]
        with pytest.raises(OSError, match="Read-only file system"):
            (place.path / "other").touch()
        with pytest.raises(OSError, match="Read-only file system"):
            (place.path / ".snapshots" / "x").mkdir()
        assert json.loads(heliosfs("status", place.path, "--json"))["read_only"]
        for words in (("log", "."), ("diff", ".", "op:1"), ("snapshot", "create", ".", "x"), ("stats", ".")):
            monkeypatch.chdir(place.path)
            said = heliosfs(*words, status=1)
            assert f"{place.path} is read-only" in said and ".heliosfs/diff/A..B" in said
        assert (place.path / ".heliosfs" / "diff" / "s..now").read_text().endswith("+content\n")
        assert (place.path / ".heliosfs" / "changes" / "s").read_text() == "M\tfile\n"
        assert "snapshot.create s" in (place.path / ".heliosfs" / "log").read_text()
    finally:
        monkeypatch.chdir("/")
        heliosfs("umount", place.path)
    # The store is free when umount returns, also after one that only read.
    place.mount()


def test_fsck_refuses_a_mounted_store(volume: MountedVolume) -> None:
    said = heliosfs("fsck", volume.path, status=1)
    assert f"heliosfs umount {volume.path}, then heliosfs fsck {volume.store}" in said
    said = heliosfs("fsck", volume.store, status=1)
    assert f"pid {volume.pid}" in said


def test_fsck_counts_what_it_checked(place: MountedVolume) -> None:
    place.mount()
    (place.path / "file").write_bytes(os.urandom(100_000))
    place.unmount()
    report = json.loads(heliosfs("fsck", place.store, "--json"))
    assert report["problems"] == []
    assert report["objects"] > 0 and report["files"] > 0


def test_restore_and_undo(volume: MountedVolume) -> None:
    file = volume.path / "file"
    file.write_text("old")
    heliosfs("snapshot", "create", volume.path, "x")
    file.write_text("new")
    heliosfs("restore", volume.path, "x")
    assert file.read_text() == "old"
    heliosfs("undo", volume.path)
    assert file.read_text() == "new"
    whats = [each["what"] for each in json.loads(heliosfs("log", volume.path, "--json"))]
    assert whats[1:3] == ["restore x", "snapshot.create x"]


def test_names_of_any_bytes(volume: MountedVolume) -> None:
    name = os.fsdecode(b"odd \xff\n\x1b[31m")
    heliosfs("snapshot", "create", volume.path, name)
    assert (volume.path / ".snapshots" / name).is_dir()
    for listing in (("snapshot", "list"), ("tree",)):
        assert r"$'odd \xff\n\e[31m'" in heliosfs(*listing, volume.path)
    [told] = json.loads(heliosfs("tree", volume.path, "--json"))["snapshots"]
    assert told["name"] == name
    heliosfs("snapshot", "rename", volume.path, name, "plain")
    heliosfs("snapshot", "delete", volume.path, "plain")
    assert heliosfs("snapshot", "list", volume.path) == ""


def on_a_terminal(*words: str | Path, **environment: str) -> bytes:
    """What a command prints on a terminal."""
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "heliosfs", *words]
    subprocess.run(command, stdout=writer, env={**os.environ, **environment}, timeout=LONG, check=True)
    os.close(writer)
    with open(reader, "rb", buffering=0) as terminal:
        return terminal.read(1 << 16)


@pytest.mark.parametrize("words", [("log", "."), ("diff", ".", "s"), ("status", ".")])
def test_colours_are_left_out_when_nobody_wants_them(
    volume: MountedVolume, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(volume.path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    Path(".snapshots", "s").mkdir()
    Path("file").write_text("new")
    assert b"\x1b[1m" in on_a_terminal(*words)
    assert b"\x1b" not in on_a_terminal(*words, NO_COLOR="1")
    Path(".snapshots", "s").rmdir()
    Path("file").unlink()


def test_stats_and_sync(volume: MountedVolume) -> None:
    (volume.path / "file").write_text("content")
    heliosfs("sync", volume.path)
    assert json.loads(heliosfs("stats", volume.path, "--json"))["requests"]["write"] >= 1
    assert "requests" in heliosfs("stats", volume.path)

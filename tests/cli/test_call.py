"""How a command finds the tree that it is to act on, and talks to its daemon."""

import errno
import os
from pathlib import Path

import pytest

from heliosfs.base.errors import HeliosError
from heliosfs.cli import call

from .conftest import Fake


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories laid out like a mount with one branch; its device passes for ours."""
    root = tmp_path / "mount"
    for tree in (root, root / ".branches" / "b"):
        (tree / ".heliosfs").mkdir(parents=True)
        (tree / ".heliosfs" / "call").touch()
        (tree / "a" / "deep").mkdir(parents=True)
    device = root.stat().st_dev
    table = tmp_path / "mountinfo"
    table.write_text(
        f"80 22 {os.major(device)}:{os.minor(device)} / {root} rw - fuse.heliosfs /var/store rw,user_id=0\n"
    )
    monkeypatch.setattr("heliosfs.daemon.mounts.MOUNTINFO", str(table))
    return root


@pytest.mark.parametrize(
    ("path", "root"),
    [
        (".", "."),
        ("a/deep", "."),
        (".branches", "."),
        (".branches/b", ".branches/b"),
        (".branches/b/a", ".branches/b"),
    ],
)
def test_the_innermost_tree_counts(volume: Path, path: str, root: str) -> None:
    assert call.tree_root(str(volume / path)) == str(volume / root)


def test_a_symbolic_link_leads_to_where_it_points(volume: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(volume / ".branches" / "b" / "a")
    assert call.tree_root(str(tmp_path / "link")) == str(volume / ".branches" / "b")


def test_a_relative_path_from_within(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(volume / "a" / "deep")
    assert call.tree_root(".") == str(volume)


def test_a_directory_that_only_looks_like_a_mount_is_none(tmp_path: Path, volume: Path) -> None:
    (tmp_path / "mountinfo").write_text("80 22 0:999 / /srv rw - fuse.heliosfs /var/store rw,user_id=0\n")
    with pytest.raises(HeliosError, match="is not in a HeliosFS mount"):
        call.tree_root(str(volume))


def test_a_dead_mount_is_told_from_a_missing_one(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def stat(path: str, **keywords: bool) -> os.stat_result:
        if str(path) == str(volume):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), path)
        return real(path, **keywords)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(HeliosError, match=r"the daemon of this mount is gone.*heliosfs umount"):
        call.tree_root(str(volume))


def test_arguments_that_are_none_are_left_out(fake: Fake) -> None:
    call.call("/m", "log", limit=None, other=0)
    assert fake.asked == [("log", {"other": 0})]
    assert fake.paths == ["/m/.heliosfs/call"]


def test_a_refusal_keeps_its_errno(fake: Fake) -> None:
    fake.refusals["undo"] = (errno.ENOENT, "there is no operation 7")
    with pytest.raises(call.Refused, match="there is no operation 7") as refusal:
        call.call("/m", "undo", operation=7)
    assert refusal.value.errno == errno.ENOENT


def test_names_of_any_bytes_come_through(fake: Fake) -> None:
    fake.results["snapshot.list"] = [{"name": os.fsdecode(b"\xff\n")}]
    call.call("/m", "snapshot.create", name=os.fsdecode(b"\xfe"))
    assert os.fsencode(fake.asked[0][1]["name"]) == b"\xfe"
    assert os.fsencode(call.call("/m", "snapshot.list")[0]["name"]) == b"\xff\n"


def test_a_long_reply_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In an ordinary file the request lands in the reply's first bytes; the kernel keeps them apart.
    reply = b"{}" + os.urandom(3 * 1000)
    (tmp_path / "call").write_bytes(reply)
    monkeypatch.setattr(call, "READ_BYTES", 1000)
    assert call.exchange(str(tmp_path / "call"), b"{}") == reply

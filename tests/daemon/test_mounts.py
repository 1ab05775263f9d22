"""What is read from mountinfo, and when mounting is refused."""

import os
from pathlib import Path

import pytest

from heliosfs.base.errors import HeliosError
from heliosfs.daemon import mounts

LINES = [
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
    r"80 22 0:45 / /srv/my\040work rw,nosuid,nodev shared:9 - fuse.heliosfs /var/store\134a rw,user_id=1000",
    "81 22 0:45 /.branches/b /srv/agent ro master:3 unbindable - fuse.heliosfs /var/store rw,user_id=1000",
    "82 22 0:46 / /srv/other rw - fuse.sshfs host: rw,user_id=1000",
    "83 22 0:47 / /srv/read rw - fuse.heliosfs /var/read ro,user_id=0,group_id=0",
    "84 83 0:48 / /srv/read/tmp rw - tmpfs tmpfs rw",
    "85 22 0:49 / /srv/bare rw - fuse.heliosfs none",
]


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text("".join(line + "\n" for line in LINES))
    monkeypatch.setattr(mounts, "MOUNTINFO", str(file))
    return file


def test_only_our_own_type_counts() -> None:
    assert [mount.mountpoint for mount in mounts.mounts()] == [
        "/srv/my work",
        "/srv/agent",
        "/srv/read",
        "/srv/bare",
    ]


def test_all_fields() -> None:
    first, agent, read, _ = mounts.mounts()
    assert first == mounts.Mount(
        "/srv/my work", "fuse.heliosfs", "/var/store\\a", os.makedev(0, 45), 1000, False, True
    )
    assert (agent.read_only, agent.whole) == (True, False)
    assert (read.read_only, read.whole, read.user_id) == (True, True, 0)


@pytest.mark.parametrize(
    ("path", "mountpoint"),
    [
        ("/srv/read", "/srv/read"),
        ("/srv/read/a/b", "/srv/read"),
        ("/srv/read/tmp/a", None),
        ("/srv/reader", None),
        ("/srv/other/a", None),
        ("/", None),
        ("/srv/my work/a", "/srv/my work"),
    ],
)
def test_the_mount_around_a_path(path: str, mountpoint: str | None) -> None:
    found = mounts.mount_around(path)
    assert (found.mountpoint if found else None) == mountpoint


def test_the_topmost_of_several_mounts_counts(table: Path) -> None:
    with table.open("a") as file:
        file.write("90 83 0:60 / /srv/read rw - fuse.heliosfs /var/second rw,user_id=0\n")
    found, around = mounts.mount_at("/srv/read"), mounts.mount_around("/srv/read/a")
    assert found is not None and found.store == "/var/second"
    assert around is not None and around.store == "/var/second"


def refused(mountpoint: Path, store: Path) -> str:
    with pytest.raises(HeliosError) as refusal:
        mounts.check_mountpoint(str(mountpoint), str(store))
    return str(refusal.value)


def test_an_empty_directory_will_do(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    mounts.check_mountpoint(str(tmp_path / "tree"), str(tmp_path / "store"))


def test_a_missing_mountpoint_is_not_made(tmp_path: Path) -> None:
    message = refused(tmp_path / "tree", tmp_path / "store")
    assert "there is no directory" in message and "mkdir -p" in message
    assert not (tmp_path / "tree").exists()


def test_a_mountpoint_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a directory" in refused(tmp_path / "file", tmp_path / "store")


def test_a_mountpoint_must_be_empty(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "precious").touch()
    assert "is not empty" in refused(tmp_path / "tree", tmp_path / "store")


def test_store_and_mountpoint_lie_apart(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    assert "inside the mountpoint" in refused(tmp_path, inner)
    assert "inside the store" in refused(inner, tmp_path)
    assert "both the store and the mountpoint" in refused(inner, inner)


def test_a_second_mount_on_the_same_place_is_refused(tmp_path: Path, table: Path) -> None:
    (tmp_path / "tree").mkdir()
    with table.open("a") as file:
        file.write(f"90 22 0:60 / {tmp_path}/tree rw - fuse.heliosfs /var/first rw,user_id=0\n")
    message = refused(tmp_path / "tree", tmp_path / "store")
    assert "has /var/first mounted already" in message and "heliosfs umount" in message


def test_a_name_that_could_fool_a_terminal_is_quoted(tmp_path: Path) -> None:
    assert "$'" in refused(tmp_path / "a\x1b[31m", tmp_path / "store")

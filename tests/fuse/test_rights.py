"""Who may change a tree as a whole; and the mounts that mountinfo tells of."""

import errno
from stat import S_IFDIR

import pytest

from heliosfs.base.errors import Refusal
from heliosfs.fuse import processes
from heliosfs.fuse.mount_table import Mount, parse
from heliosfs.fuse.rights import Requester, check_is_owner, check_may_write
from heliosfs.view.inode import Inode
from heliosfs.volume.volume import Volume

OWNER, MEMBER, SUPPLEMENTARY, STRANGER, ROOT = (
    Requester(1000, 1, 10), Requester(1, 1000, 10), Requester(1, 1, 20), Requester(1, 1, 10), Requester(0, 0, 10)
)  # fmt: skip


@pytest.fixture
def root(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> Inode:
    """A root directory of user 1000 and group 1000; process 20 is in that group, too."""
    monkeypatch.setattr(processes, "groups", lambda pid: {1000} if pid == 20 else set())
    root = volume.main.view.root
    volume.main.view.set_attributes(root, uid=1000, gid=1000)
    return root


def allowed(check: object, root: Inode, requester: Requester) -> bool:
    try:
        check(root, requester)  # type: ignore[operator]
    except Refusal as refusal:
        assert refusal.errno in (errno.EACCES, errno.EPERM)
        return False
    return True


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o755, (True, False, False, False, True)),
        (0o775, (True, True, True, False, True)),
        (0o777, (True, True, True, True, True)),
        (0o555, (False, False, False, False, True)),
        (0o577, (False, True, True, True, True)),
        (0o757, (True, False, False, True, True)),
    ],
)
def test_who_may_create_in_the_root_may_checkpoint(root: Inode, mode: int, expected: tuple[bool, ...]) -> None:
    root.view.set_attributes(root, mode=S_IFDIR | mode)
    everybody = (OWNER, MEMBER, SUPPLEMENTARY, STRANGER, ROOT)
    assert tuple(allowed(check_may_write, root, each) for each in everybody) == expected


def test_only_the_owner_and_root_change_the_tree_for_everybody(root: Inode) -> None:
    root.view.set_attributes(root, mode=S_IFDIR | 0o777)
    everybody = (OWNER, MEMBER, SUPPLEMENTARY, STRANGER, ROOT)
    assert [allowed(check_is_owner, root, each) for each in everybody] == [True, False, False, False, True]


def test_mountinfo_is_read_with_its_escapes() -> None:
    text = (
        rb"36 35 98:0 /mnt1 /mnt\0402\134 rw,noatime master:1 - ext3 /dev/root rw,errors=continue" + b"\n"
        rb"37 35 0:52 / /m rw - fuse.heliosfs /store rw" + b"\n"
        b"torn line\n"
    )
    assert list(parse(text)) == [
        Mount("98:0", b"/mnt1", b"/mnt 2\\", b"ext3"),
        Mount("0:52", b"/", b"/m", b"fuse.heliosfs"),
    ]

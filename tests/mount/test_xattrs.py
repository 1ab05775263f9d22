"""Extended attributes: user, trusted and security, their flags, sizes and rights."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from .support import NOBODY, fails, on_host, opened, root_only, user


@pytest.fixture
def file(tree: Path) -> Path:
    path = tree / "file"
    path.touch()
    return path


def listed(path: Path) -> set[str]:
    """The names, without those that a security module puts on every file."""
    return {name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("security.selinux")}


def test_attributes_are_set_read_listed_and_removed(file: Path) -> None:
    assert listed(file) == set()
    with fails(errno.ENODATA):
        os.getxattr(file, "user.name")
    os.setxattr(file, "user.name", b"value")
    os.setxattr(file, "user.empty", b"")
    os.setxattr(file, "user.binary", bytes(range(256)))
    assert os.getxattr(file, "user.name") == b"value"
    assert os.getxattr(file, "user.empty") == b""
    assert os.getxattr(file, "user.binary") == bytes(range(256))
    assert listed(file) == {"user.name", "user.empty", "user.binary"}
    os.setxattr(file, "user.name", b"another, longer value")
    assert os.getxattr(file, "user.name") == b"another, longer value"
    os.removexattr(file, "user.name")
    with fails(errno.ENODATA):
        os.removexattr(file, "user.name")
    assert listed(file) == {"user.empty", "user.binary"}


def test_create_and_replace(file: Path) -> None:
    with fails(errno.ENODATA):
        os.setxattr(file, "user.name", b"1", os.XATTR_REPLACE)
    os.setxattr(file, "user.name", b"1", os.XATTR_CREATE)
    with fails(errno.EEXIST):
        os.setxattr(file, "user.name", b"2", os.XATTR_CREATE)
    assert os.getxattr(file, "user.name") == b"1"
    os.setxattr(file, "user.name", b"3", os.XATTR_REPLACE)
    assert os.getxattr(file, "user.name") == b"3"


def test_attributes_belong_to_the_file_not_to_its_name(tree: Path, file: Path) -> None:
    os.setxattr(file, "user.name", b"value")
    os.link(file, tree / "link")
    os.rename(file, tree / "moved")
    assert os.getxattr(tree / "link", "user.name") == b"value"
    os.removexattr(tree / "link", "user.name")
    assert listed(tree / "moved") == set()
    os.setxattr(tree / "moved", "user.name", b"value")
    (tree / "link").unlink()
    with opened(tree / "moved", os.O_RDWR) as descriptor:
        (tree / "moved").unlink()
        assert os.getxattr(descriptor, "user.name") == b"value"
        os.setxattr(descriptor, "user.later", b"value")
        assert os.getxattr(descriptor, "user.later") == b"value"
    (tree / "moved").touch()
    assert listed(tree / "moved") == set()


def test_directories_have_attributes(tree: Path) -> None:
    (tree / "directory").mkdir()
    os.setxattr(tree / "directory", "user.name", b"value")
    (tree / "directory" / "below").touch()
    assert os.getxattr(tree / "directory", "user.name") == b"value"
    assert listed(tree / "directory" / "below") == set()


def test_symbolic_links_have_no_user_attributes(tree: Path, file: Path) -> None:
    (tree / "link").symlink_to("file")
    with fails(errno.EPERM):
        os.setxattr(tree / "link", "user.name", b"value", follow_symlinks=False)
    os.setxattr(tree / "link", "user.name", b"value")
    assert os.getxattr(file, "user.name") == b"value"
    assert os.listxattr(tree / "link", follow_symlinks=False) == []


def test_the_limits(file: Path) -> None:
    with fails(errno.E2BIG):
        os.setxattr(file, "user.name", bytes(65_537))
    with fails(errno.ERANGE):
        os.setxattr(file, "user." + "n" * 251, b"")
    os.setxattr(file, "user." + "n" * 250, b"value")
    assert os.getxattr(file, "user." + "n" * 250) == b"value"
    for size in (1_000, 4_096, 65_536):
        try:
            os.setxattr(file, "user.large", bytes([size % 251]) * size)
        except OSError as error:
            assert on_host, f"{size} bytes are within the kernel's limit"
            assert error.errno in (errno.ENOSPC, errno.E2BIG)
        else:
            assert os.getxattr(file, "user.large") == bytes([size % 251]) * size


def test_many_attributes_on_one_file(file: Path) -> None:
    names = {f"user.attribute-{number}" for number in range(60)}
    for name in names:
        os.setxattr(file, name, name[-3:].encode())
    assert listed(file) == names
    for name in names:
        assert os.getxattr(file, name) == name[-3:].encode()


def test_unknown_kinds_are_refused(file: Path) -> None:
    for name in ("unknown.name", "name"):
        with fails(errno.EOPNOTSUPP):
            os.setxattr(file, name, b"value")
    with fails(errno.EOPNOTSUPP, errno.EINVAL):
        os.setxattr(file, "user.", b"value")


@root_only
def test_trusted_attributes_are_for_root(file: Path) -> None:
    file.chmod(0o666)
    os.setxattr(file, "trusted.name", b"secret")
    os.setxattr(file, "user.name", b"open")
    assert os.getxattr(file, "trusted.name") == b"secret"
    assert listed(file) == {"trusted.name", "user.name"}
    with user():
        with fails(errno.ENODATA, errno.EPERM):
            os.getxattr(file, "trusted.name")
        with fails(errno.EPERM):
            os.setxattr(file, "trusted.other", b"value")
        assert listed(file) == {"user.name"}
    (file.parent / "link").symlink_to("file")
    os.setxattr(file.parent / "link", "trusted.name", b"of the link", follow_symlinks=False)
    assert os.getxattr(file.parent / "link", "trusted.name", follow_symlinks=False) == b"of the link"


@root_only
def test_security_attributes(file: Path) -> None:
    os.setxattr(file, "security.name", b"value")
    assert os.getxattr(file, "security.name") == b"value"
    file.chmod(0o666)
    with user(), fails(errno.EPERM, errno.EACCES):
        os.setxattr(file, "security.name", b"other")


@root_only
def test_capabilities_go_when_the_file_is_written(file: Path) -> None:
    # struct vfs_cap_data, revision 2: CAP_NET_BIND_SERVICE permitted and effective
    capability = (0x02000001).to_bytes(4, "little") + (1 << 10).to_bytes(4, "little") + bytes(12)
    os.setxattr(file, "security.capability", capability)
    assert os.getxattr(file, "security.capability") == capability
    with opened(file, os.O_WRONLY) as descriptor:
        os.write(descriptor, b"changed")
    with fails(errno.ENODATA):
        os.getxattr(file, "security.capability")
    os.setxattr(file, "security.capability", capability)
    os.chown(file, NOBODY, NOBODY)
    with fails(errno.ENODATA):
        os.getxattr(file, "security.capability")


@root_only
def test_rights_decide(tree: Path, file: Path) -> None:
    tree.chmod(0o755)
    file.chmod(0o644)
    os.setxattr(file, "user.name", b"value")
    with user():
        assert os.getxattr(file, "user.name") == b"value"
        with fails(errno.EACCES):
            os.setxattr(file, "user.name", b"other")
        with fails(errno.EACCES):
            os.removexattr(file, "user.name")
    file.chmod(0o600)
    with user(), fails(errno.EACCES):
        os.getxattr(file, "user.name")

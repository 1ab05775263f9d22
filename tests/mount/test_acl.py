"""Access control lists, on a mount that has them (`-o acl`); the fuzzer compares their rules with the host's."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import fails, mount_only, on_host, opened, root_only, run, tool, umask, user
from .volumes import MountedVolume, heliosfs, mounted, scratch_directory

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"
TAGS = {"u": 0x02, "g": 0x08, "m": 0x10}
OTHER_USER = 12_345
OTHER_GROUP = 23_456


def acl(mode: int, *more: tuple[str, int, int]) -> bytes:
    """The attribute of a list: the classes of a mode, and further entries (kind, id, bits)."""
    entries = [(0x01, mode >> 6 & 7, -1), (0x04, mode >> 3 & 7, -1), (0x20, mode & 7, -1)]
    entries += [(TAGS[kind], bits, number) for kind, number, bits in more]
    body = b"".join(struct.pack("<HHi", tag, bits, number) for tag, bits, number in sorted(entries))
    return struct.pack("<I", 2) + body


NAMED = acl(0o750, ("u", OTHER_USER, 7), ("m", -1, 7))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(scope="module")
def volume() -> Iterator[MountedVolume]:
    """The mount of this module's trees."""
    if on_host:
        pytest.skip("HELIOSFS_TEST_DIRECTORY is set: there is no mount")
    with mounted(["acl"]) as served:
        yield served


def test_a_list_and_the_mode_follow_each_other(tree: Path) -> None:
    path = tree / "file"
    path.touch()
    with fails(errno.ENODATA):
        os.getxattr(path, ACCESS)
    os.setxattr(path, ACCESS, acl(0o640, ("u", OTHER_USER, 7), ("m", -1, 6)))
    assert mode(path) == 0o660
    assert os.listxattr(path) == [ACCESS]
    path.chmod(0o604)
    assert os.getxattr(path, ACCESS) == acl(0o644, ("u", OTHER_USER, 7), ("m", -1, 0))
    os.setxattr(path, ACCESS, acl(0o700))
    assert mode(path) == 0o700
    assert os.listxattr(path) == []
    os.setxattr(path, ACCESS, NAMED)
    os.removexattr(path, ACCESS)
    assert mode(path) == 0o770
    with fails(errno.ENODATA):
        os.getxattr(path, ACCESS)


def test_what_is_refused(tree: Path) -> None:
    (tree / "file").touch()
    (tree / "link").symlink_to("file")
    with fails(errno.EACCES):
        os.setxattr(tree / "file", DEFAULT, NAMED)
    with fails(errno.EOPNOTSUPP):
        os.setxattr(tree / "link", ACCESS, NAMED, follow_symlinks=False)
    for value in (b"rubbish", acl(0o750, ("u", OTHER_USER, 7)), NAMED[:-1]):
        with fails(errno.EINVAL, errno.EOPNOTSUPP):
            os.setxattr(tree / "file", ACCESS, value)
    assert mode(tree / "file") == 0o644


def test_new_files_inherit(tree: Path) -> None:
    os.setxattr(tree, DEFAULT, acl(0o750, ("u", OTHER_USER, 7), ("m", -1, 7)))
    with umask(0o077):  # of no account where there is a default list
        (tree / "directory").mkdir()
        (tree / "file").touch()
        os.mkfifo(tree / "fifo")
        os.mknod(tree / "node", stat.S_IFREG | 0o666)
        with opened(tree / "private", os.O_CREAT | os.O_WRONLY, 0o600):
            pass
        (tree / "link").symlink_to("file")
    assert os.getxattr(tree / "directory", DEFAULT) == os.getxattr(tree, DEFAULT)
    assert os.getxattr(tree / "directory", ACCESS) == NAMED
    assert mode(tree / "directory") == 0o770
    for name in ("file", "fifo", "node"):
        assert mode(tree / name) == 0o660
        assert os.getxattr(tree / name, ACCESS) == acl(0o650, ("u", OTHER_USER, 7), ("m", -1, 6))
    assert mode(tree / "private") == 0o600
    (tree / "directory" / "below").mkdir()
    assert os.getxattr(tree / "directory" / "below", DEFAULT) == os.getxattr(tree, DEFAULT)
    os.setxattr(tree, DEFAULT, acl(0o751))
    (tree / "plain").mkdir()
    assert mode(tree / "plain") == 0o751
    assert os.listxattr(tree / "plain") == [DEFAULT]
    os.removexattr(tree, DEFAULT)
    with umask(0o027):
        (tree / "masked").mkdir()
        (tree / "masked-file").touch()
    assert (mode(tree / "masked"), mode(tree / "masked-file")) == (0o750, 0o640)
    assert os.listxattr(tree / "masked") == []


@root_only
def test_lists_decide(tree: Path) -> None:
    path = tree / "file"
    path.write_text("content")
    path.chmod(0o600)
    with user(OTHER_USER, OTHER_GROUP):
        with fails(errno.EACCES):
            path.read_text()
        with fails(errno.EPERM):
            os.setxattr(path, ACCESS, NAMED)
    os.setxattr(path, ACCESS, acl(0o600, ("u", OTHER_USER, 6), ("m", -1, 4)))
    with user(OTHER_USER, OTHER_GROUP):
        assert path.read_text() == "content"
        with fails(errno.EACCES):
            path.write_text("other")
    with user(OTHER_USER + 1, OTHER_GROUP), fails(errno.EACCES):
        path.read_text()
    os.setxattr(path, ACCESS, acl(0o604, ("g", OTHER_GROUP, 0), ("m", -1, 7)))
    with user(OTHER_USER, 1, [OTHER_GROUP]), fails(errno.EACCES):
        path.read_text()
    with user(OTHER_USER, 1):
        assert path.read_text() == "content"
    path.chmod(0o600)
    with user(OTHER_USER, 1), fails(errno.EACCES):
        path.read_text()


@root_only
def test_a_stranger_to_the_group_loses_set_gid(tree: Path) -> None:
    tree.chmod(0o777)
    path = tree / "file"
    path.touch()
    os.chown(path, OTHER_USER, OTHER_GROUP)
    path.chmod(0o2770)
    with user(OTHER_USER, OTHER_GROUP):
        os.setxattr(path, ACCESS, NAMED)
    assert mode(path) == 0o2770
    with user(OTHER_USER, 1):
        os.setxattr(path, ACCESS, NAMED)
    assert mode(path) == 0o770


@mount_only
@root_only
def test_who_may_checkpoint_follows_the_roots_list(volume: MountedVolume) -> None:
    branch = volume.path / ".branches" / "rights"
    branch.mkdir()
    branch.chmod(0o700)
    with user(OTHER_USER, OTHER_GROUP), fails(errno.EACCES):
        (branch / ".snapshots" / "first").mkdir()
    os.setxattr(branch, ACCESS, acl(0o700, ("u", OTHER_USER, 7), ("m", -1, 7)))
    assert os.getxattr(branch / ".snapshots", ACCESS) == os.getxattr(branch, ACCESS)
    with user(OTHER_USER, OTHER_GROUP):
        (branch / ".snapshots" / "first").mkdir()
        (branch / ".branches" / "child").mkdir()
    with user(OTHER_USER + 1, 0), fails(errno.EACCES):  # in the owning group, which the list gives nothing
        (branch / ".snapshots" / "second").mkdir()
    branch.chmod(0o700)
    with user(OTHER_USER, OTHER_GROUP), fails(errno.EACCES):
        (branch / ".snapshots" / "second").mkdir()
    assert os.listdir(branch / ".snapshots") == ["first"]


@mount_only
def test_snapshots_branches_and_roll_back(volume: MountedVolume) -> None:
    branch = volume.path / ".branches" / "states"
    branch.mkdir()
    (branch / "file").touch()
    os.setxattr(branch / "file", ACCESS, NAMED)
    (branch / ".snapshots" / "before").mkdir()
    os.setxattr(branch / "file", ACCESS, acl(0o711, ("u", 1, 0), ("m", -1, 1)))
    assert os.getxattr(branch / ".snapshots" / "before" / "file", ACCESS) == NAMED
    with fails(errno.EROFS):
        os.setxattr(branch / ".snapshots" / "before" / "file", ACCESS, acl(0o700))
    with fails(errno.EROFS):
        os.removexattr(branch / ".snapshots" / "before" / "file", ACCESS)
    (branch / ".snapshots" / "before" / ".branches" / "fork").mkdir()
    assert os.getxattr(branch / ".branches" / "fork" / "file", ACCESS) == NAMED
    heliosfs("restore", branch, "before")
    assert os.getxattr(branch / "file", ACCESS) == NAMED
    assert mode(branch / "file") == 0o770


@mount_only
@root_only
def test_a_roll_back_is_felt_at_once(volume: MountedVolume) -> None:
    branch = volume.path / ".branches" / "felt"
    branch.mkdir()
    (branch / "file").write_text("content")
    (branch / "file").chmod(0o600)
    (branch / ".snapshots" / "closed").mkdir()
    os.setxattr(branch / "file", ACCESS, acl(0o600, ("u", OTHER_USER, 4), ("m", -1, 4)))
    with user(OTHER_USER, OTHER_GROUP):
        assert (branch / "file").read_text() == "content"
    heliosfs("restore", branch, "closed")
    with user(OTHER_USER, OTHER_GROUP), fails(errno.EACCES):
        (branch / "file").read_text()
    heliosfs("undo", branch)
    with user(OTHER_USER, OTHER_GROUP):
        assert (branch / "file").read_text() == "content"


@mount_only
def test_without_the_option_there_are_none(tree: Path, volume_mount: MountedVolume) -> None:
    path = volume_mount.path / "file"
    path.touch()
    for name in (ACCESS, DEFAULT):
        with fails(errno.EOPNOTSUPP):
            os.setxattr(volume_mount.path, name, NAMED)
        with fails(errno.EOPNOTSUPP):
            os.getxattr(volume_mount.path, name)
        with fails(errno.EOPNOTSUPP):
            os.removexattr(volume_mount.path, name)


@mount_only
def test_lists_outlast_a_mount_without_the_option(volume_mount: MountedVolume) -> None:
    path = volume_mount.path / "file"

    def with_options(*options: str) -> None:
        volume_mount.unmount()
        volume_mount.options = list(options)
        volume_mount.mount()

    with_options("acl")
    path.touch()
    os.setxattr(path, ACCESS, NAMED)
    with_options()
    assert os.listxattr(path) == []
    path.chmod(0o710)
    with_options("acl")
    assert os.getxattr(path, ACCESS) == acl(0o750, ("u", OTHER_USER, 7), ("m", -1, 1))
    volume_mount.kill()
    volume_mount.mount()
    assert mode(path) == 0o710
    assert os.getxattr(path, ACCESS) == acl(0o750, ("u", OTHER_USER, 7), ("m", -1, 1))


@mount_only
def test_a_mount_that_cannot_have_them_is_refused() -> None:
    with scratch_directory() as base:
        (base / "mount").mkdir()
        said = heliosfs("mount", base / "store", base / "mount", "-o", "acl,own_mount=no", status=1)
        assert "acl needs own_mount" in said
        assert not os.path.ismount(base / "mount")


def test_the_tools(tree: Path, tmp_path: Path) -> None:
    setfacl, getfacl = tool("setfacl"), tool("getfacl")
    (tree / "directory").mkdir(mode=0o750)
    run(setfacl, "-m", f"u:{OTHER_USER}:rwX,d:u:{OTHER_USER}:rwX,d:g:{OTHER_GROUP}:r-X", "directory", cwd=tree)
    (tree / "directory" / "file").write_text("content")
    run(setfacl, "-m", "m::r--", "directory/file", cwd=tree)
    expected = run(getfacl, "-n", "-R", "directory", cwd=tree).stdout
    assert f"default:user:{OTHER_USER}:rwx" in expected
    assert "#effective:r--" in expected
    run("cp", "-a", "directory", "copy", cwd=tree)
    assert run(getfacl, "-n", "-R", "copy", cwd=tree).stdout == expected.replace("file: directory", "file: copy")
    (tree / "saved").write_text(expected)
    run(setfacl, "-R", "-b", "directory", cwd=tree)
    assert str(OTHER_USER) not in run(getfacl, "-n", "-R", "directory", cwd=tree).stdout
    run(setfacl, "--restore=saved", cwd=tree)
    assert run(getfacl, "-n", "-R", "directory", cwd=tree).stdout == expected
    run(tool("tar"), "--acls", "--xattrs", "-cf", tmp_path / "saved.tar", "directory", cwd=tree)
    shutil.rmtree(tree / "directory")
    run("tar", "--acls", "--xattrs", "-xpf", tmp_path / "saved.tar", cwd=tree)
    assert run(getfacl, "-n", "-R", "directory", cwd=tree).stdout == expected

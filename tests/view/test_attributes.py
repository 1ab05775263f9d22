"""Attributes that cannot be changed stay as they are."""

import pytest

from heliosfs.base.errors import Corruption
from heliosfs.base.keys import XATTR
from heliosfs.view import acl
from tests.volume.trees import CALLER, new_volume


def test_what_cannot_be_read_changes_nothing() -> None:
    with new_volume() as volume:
        view = volume.main.view
        inode = view.make(view.root, b"file", 0o100644, CALLER)
        view.write(inode, 0, b"content")
        view.top.apply([(inode.ino, XATTR, acl.ACCESS, b"damaged")])
        before = inode.encode()
        with pytest.raises(Corruption):
            view.set_attributes(inode, mode=0o600, size=0, uid=1)
        assert inode.encode() == before
        assert bytes(view.read(inode, 0, 10)) == b"content"

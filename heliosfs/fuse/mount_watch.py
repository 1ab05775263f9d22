"""Which directories of a filesystem are mounted by themselves, in any mount namespace, without reading all tables
each time.

The kernel (Linux 6.12 and later, for root) enumerates the namespaces and tells the ids of the mounts in each. An id
belongs to one mount for ever, and a mount never comes to show another directory: so equal ids mean that if nothing
was mounted then, nothing is now. What is mounted is read anew each time, since its path changes when a directory is
renamed. Where the kernel does not tell, every table is read every time.
"""

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import Final

from heliosfs.fuse import mount_table

_NS_MNT_GET_INFO: Final = 0x8010B70A
_NS_MNT_GET_NEXT: Final = 0x8010B70B
_NS_MNT_GET_PREV: Final = 0x8010B70C
_INFO: Final = struct.Struct("=IIQ")
"""struct mnt_ns_info: size, number of mounts, id."""

_SYS_LISTMOUNT: Final = 458
"""The same on every architecture."""
_REQUEST: Final = struct.Struct("=IIQQQ")
"""struct mnt_id_req: size, spare, mount, id after which to begin, namespace."""
_LSMT_ROOT: Final = (1 << 64) - 1
NAMESPACES_MAX: Final = 64
MOUNTS_MAX: Final = 1024
"""With more of either than this the tables are read every time."""

Ids = list[tuple[int, bytes]]
"""For each namespace its id and the ids of its mounts."""

_listmount = ctypes.CDLL(None, use_errno=True).syscall
_listmount.argtypes = (ctypes.c_long, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
_listmount.restype = ctypes.c_long


class MountWatch:
    """The directories of one filesystem ("major:minor") that are mounted."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._ids: Ids | None = None
        self._namespaces = Namespaces()

    def nothing(self) -> bool:
        """Whether it is certain that none but the top is. Quick."""
        return self._ids is not None and self._namespaces.mounts() == self._ids

    def read(self) -> frozenset[bytes]:
        """They, from all tables. Takes some microseconds for each process of the machine: for a worker thread."""
        # First the ids: a mount that comes in between makes them differ the next time.
        ids = self._namespaces.mounts()
        roots = mount_table.roots_everywhere(self._device)
        self._ids = ids if roots <= {b"/"} else None
        return roots


class Namespaces:
    """All mount namespaces of the machine, as seen from this process's own, which it is to stay in."""

    def __init__(self) -> None:
        self._own = -1
        self._info = bytearray(_INFO.size)
        self._ids = ctypes.create_string_buffer(MOUNTS_MAX * 8)
        self._at = ctypes.addressof(self._ids)

    def __del__(self) -> None:
        if self._own >= 0:
            os.close(self._own)

    def mounts(self) -> Ids | None:
        """The ids of all mounts of all namespaces; None where the kernel does not tell."""
        try:
            if self._own < 0:
                self._own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            return [(namespace, self._mounts_of(namespace)) for namespace in self._all()]
        except OSError:
            return None

    def _all(self) -> Iterator[int]:
        """The ids of the namespaces: the own one, then those after and before it."""
        info = self._info
        fcntl.ioctl(self._own, _NS_MNT_GET_INFO, info)
        yield _INFO.unpack(info)[2]
        left = NAMESPACES_MAX
        for direction in (_NS_MNT_GET_NEXT, _NS_MNT_GET_PREV):
            at = self._own
            try:
                while (following := self._beside(at, direction)) >= 0:
                    if at != self._own:
                        os.close(at)
                    at = following
                    left -= 1
                    if not left:
                        raise OSError("too many namespaces")
                    yield _INFO.unpack(info)[2]
            finally:
                if at != self._own:
                    os.close(at)

    def _beside(self, namespace: int, direction: int) -> int:
        """The next namespace in a direction, opened, with its facts in `_info`; -1 when there is none."""
        try:
            return int(fcntl.ioctl(namespace, direction, self._info))
        except FileNotFoundError:
            return -1

    def _mounts_of(self, namespace: int) -> bytes:
        request = _REQUEST.pack(_REQUEST.size, 0, _LSMT_ROOT, 0, namespace)
        count = int(_listmount(_SYS_LISTMOUNT, request, self._at, MOUNTS_MAX, 0))
        if count < 0:
            raise OSError(ctypes.get_errno(), "listmount")
        if count >= MOUNTS_MAX:
            raise OSError("too many mounts")
        return ctypes.string_at(self._at, count * 8)

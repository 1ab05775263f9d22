"""What can be chosen when a volume is mounted.

Every field has a default of the type it takes, so that a command line can be made from the fields alone.
"""

import os
from dataclasses import dataclass

from heliosfs.fuse.tuning import waking_takes_long

KNOWN_COPIERS = ("cp", "mv", "rsync", "tar", "bsdtar", "cpio", "pax", "unzip")
"""Programs that make a directory in order to fill it: what they make starts empty."""


def _is_root() -> bool:
    return os.geteuid() == 0


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one mount."""

    branch: str = ""
    """Path of the branch that is the root of the mount, as A/B; empty for the main branch."""
    read_only: bool = False
    allow_other: bool = _is_root()
    """Other users may enter, with the rights that modes and owners give them."""
    default_permissions: bool = True
    """The kernel checks modes and owners. Without it everybody who may enter may do everything."""
    dev: bool = False
    suid: bool = False
    exec: bool = True
    """What nodev, nosuid and noexec deny."""
    acl: bool = False
    """Access control lists (setfacl, getfacl). Needs own_mount; the kernel checks rights then, whatever
    default_permissions says."""
    relatime: bool = False
    """Keep access times as the kernel's relatime does, at the price of a change per file read."""
    list_magic: bool = False
    """List .snapshots, .branches and .heliosfs in directory listings."""
    copiers: tuple[str, ...] = ()
    """More programs like cp and tar (see KNOWN_COPIERS)."""
    own_mount: bool = True
    """Do the kernel's handshake ourselves, for features that libfuse does not ask for."""
    fast_loop: bool = True
    """Replace the waiting part of pyfuse3's request loop."""
    long_timeouts: bool = True
    """The kernel keeps names and attributes for ever, not for a second."""
    quiet_xattrs: bool = True
    """Kinds of attributes that there are not are answered so that programs ask but once."""
    silent_close: bool = True
    """Closing a file takes one request, not two."""
    keep_freed_memory: bool = True
    """Big buffers are kept for the next request."""
    calm_collector: bool = True
    """Python looks for garbage cycles seldom. These are there to be left out: that shows what each is worth."""
    spin_microseconds: int = 30
    """How long the loop looks for the next request before it sleeps; 0 saves power, more than 50 never
    helps."""
    read_ahead_kilobytes: int = 1024
    """How far the kernel reads ahead in sequential reads, where we may set it (root); 0 leaves it alone."""
    low_latency: bool = waking_takes_long()
    """Keep idle processors out of deep sleep while requests arrive (root): faster answers, more power."""

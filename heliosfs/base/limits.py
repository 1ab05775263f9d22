"""Limits, each with its reason. Units are in the names."""

NAME_BYTES_MAX = 255
"""Longest name of a directory entry: what Linux filesystems and the kernel's FUSE client allow."""

SYMLINK_BYTES_MAX = 4095
"""Longest target of a symbolic link: PATH_MAX without its terminating zero."""

LINKS_MAX = 65000
"""Most names of one file. ext4's limit, so that tools meet nothing new; records could count further. Directories may
have any number of subdirectories, as there."""

FILE_BYTES_MAX = (1 << 63) - 1
"""Largest size of a file: the largest offset a system call can name."""

TIME_NANOSECONDS_MIN = -(1 << 63)
TIME_NANOSECONDS_MAX = (1 << 64) - 1
"""The times that a record can hold, from September 1677 to July 2554. Others become the nearest of these, as on Linux's
own filesystems (ext4 holds 1901 to 2446)."""

XATTR_NAME_BYTES_MAX = 255
XATTR_VALUE_BYTES_MAX = 65536
"""The kernel's own limits (XATTR_NAME_MAX, XATTR_SIZE_MAX): it never sends more."""

XATTRS_LIST_BYTES_MAX = 65536
"""All names of one file's attributes together: listxattr(2) cannot return more (XATTR_LIST_MAX)."""

LAYER_RECORDS_MAX = 50_000
"""A mutable layer with more records is frozen and sealed, so memory stays bounded: about 10 MB."""

UNSEALED_RECORDS_MAX = 4 * LAYER_RECORDS_MAX
"""Records in layers that wait to be sealed beyond which requests wait as well: some 60 MB."""

UNSEALED_LAYERS_MAX = 500
"""Layers that wait to be sealed beyond which requests wait as well. A look-up walks through them: 20,000 checkpoints in
a row took 22 s with this limit, 31 s with 2,000 and several minutes without one."""

FLUSH_RECORDS_MAX = 10_000
"""Changed records that start a flush even under load. To gather and to write as many takes some 15 ms each, in which no
request is answered."""

FLUSH_RECORDS_OF_OPERATION = 4
"""Records that one operation of the log counts for: its entry, its ref, its layers. These are still to be replayed, and
to be written by a flush, when all that the operation named has been sealed."""

FLUSH_JOURNAL_BYTES = 16 << 20
"""Journal bytes since the last flush that start one: they bound the replay at open, and what the journal still holds of
content that is in packs. As many as a segment has, which goes as a whole."""

FLUSH_JOURNAL_BYTES_MIN = 2 << 20
"""Less than this is never flushed before the volume is closed: replaying it takes some 20 ms."""

UNCUT_BYTES_MAX = 512 << 20
"""Bytes in the journal beyond which the cutter works even while requests wait."""

INLINE_BYTES_MAX = 512
"""Content up to this length lies in its extent record: an object of its own costs about 150 bytes."""

"""One stack of layers seen as a POSIX tree: inodes, names, attributes, content, extended attributes.

Knows nothing of branches, snapshots or the kernel. Everything is plain `def` and runs to its end: a call either
is in the journal and in the top layer when it returns, or has changed nothing.
"""

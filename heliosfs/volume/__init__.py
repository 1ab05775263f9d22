"""All branches and snapshots over one store: refs, the operation log, background work, difference, fsck.

Knows nothing of the kernel.
"""

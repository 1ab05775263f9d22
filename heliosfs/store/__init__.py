"""The store: the journal, the database, the packs and the object store over them.

Everything durable of a volume lies here, as byte strings. Knows nothing of trees, files or branches.
The format on disk is described in docs/format.md.
"""

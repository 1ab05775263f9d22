"""A volume as a mounted filesystem: the pyfuse3 adapter, the request loop, the reserved names, the verbs.

One trio thread answers every request and owns all mutable state. Handlers are plain functions that run to
their end; the few that must wait (a sync, a worker thread) return a coroutine. Nothing in this floor may
look a path up inside its own mount on that thread: the thread would wait for itself.
"""

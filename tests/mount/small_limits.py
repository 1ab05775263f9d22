"""The command with small limits, for stress: `python -m tests.mount.small_limits mount STORE MOUNTPOINT`.

Flushes, seals, new journal segments and new packs come every few hundred operations instead of every few
gigabytes, and what is read comes from disk, so a short run meets what a long one on a big volume would.
"""

from __future__ import annotations

from heliosfs.base import limits

# Before anything else of ours is imported: the other modules take these by value.
limits.LAYER_RECORDS_MAX = 300
limits.FLUSH_RECORDS_MAX = 500
limits.FLUSH_JOURNAL_BYTES = 1 << 20
limits.FLUSH_JOURNAL_BYTES_MIN = 64 << 10
limits.UNCUT_BYTES_MAX = 2 << 20

from heliosfs.cli.main import main  # noqa: E402
from heliosfs.layers import span  # noqa: E402
from heliosfs.store import journal, objects, packs  # noqa: E402
from heliosfs.volume import background, volume  # noqa: E402

journal.CACHE_BYTES = 256 << 10
journal.Journal.__init__.__kwdefaults__["segment_bytes"] = 1 << 20
objects.Objects.__init__.__kwdefaults__["cache_bytes"] = 256 << 10
packs.Packs.__init__.__kwdefaults__["pack_bytes"] = 2 << 20
span.SPAN_RECORDS_MAX = 500  # type: ignore[misc]
background.SCAN_BYTES = 32 << 10
volume.NODE_CACHE_BYTES = 64 << 10

if __name__ == "__main__":
    main()

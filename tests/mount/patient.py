"""The command without background intake of a base, so that a test can say when that goes on:
`python -m tests.mount.patient mount STORE MOUNTPOINT --base DIRECTORY`. It waits for a file, whose name is in GO.
"""

from __future__ import annotations

import os

from heliosfs.cli.main import main
from heliosfs.volume.taking_in import TakingIn

GO = "HELIOSFS_TEST_GO"

_dirty = TakingIn.dirty


def _patient(self: TakingIn) -> bool:
    return os.path.exists(os.environ[GO]) and _dirty(self)


if __name__ == "__main__":
    TakingIn.dirty = _patient  # type: ignore[method-assign]
    main()

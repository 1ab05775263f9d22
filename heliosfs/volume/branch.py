"""A branch and a snapshot in memory: their records and their views."""

import errno

from heliosfs.base.errors import Refusal
from heliosfs.layers.layer import Layer
from heliosfs.view.view import View
from heliosfs.volume.naming import text
from heliosfs.volume.refs import BranchRecord, SnapshotRecord


class Branch:
    """A named stack whose top layer is mutable, with its snapshots and the branches forked from it."""

    def __init__(self, branch_id: int, record: BranchRecord, parent: "Branch | None", view: View) -> None:
        self.id = branch_id
        self.record = record
        self.parent = parent
        self.view = view
        self.children: dict[bytes, Branch] = {}
        self.snapshots: dict[bytes, Snapshot] = {}
        self.timed: dict[bytes, Snapshot] = {}
        """States that were kept by themselves, oldest first."""
        self.dropped = False

    def __repr__(self) -> str:
        return f"<Branch {self.id} {self.name!r}>"

    @property
    def name(self) -> bytes:
        return self.record.name

    @property
    def created(self) -> int:
        return self.record.created

    @property
    def uid(self) -> int:
        return self.record.uid

    def check_there(self) -> None:
        """ESTALE once it was dropped."""
        if self.dropped:
            raise Refusal(errno.ESTALE, f"the branch {text(self.name)!r} was deleted")

    def path(self) -> list[bytes]:
        """The names from the main branch down to this one; empty for the main branch."""
        return [] if self.parent is None else [*self.parent.path(), self.name]


class Snapshot:
    """A named frozen state of a branch. Its view is made when it is first looked at."""

    def __init__(
        self, branch: Branch, name: bytes, record: SnapshotRecord, state: Layer, *, timed: bool = False
    ) -> None:
        self.branch = branch
        self.name = name
        self.record = record
        self.state = state
        self.view: View | None = None
        self.dropped = False
        self.timed = timed
        """Kept by itself: see `time_machine`."""

    def __repr__(self) -> str:
        return f"<Snapshot {self.name!r} of {self.branch!r}>"

    @property
    def created(self) -> int:
        return self.record.created

    @property
    def uid(self) -> int:
        return self.record.uid

    @property
    def file(self) -> int:
        return self.record.file

    @property
    def filling(self) -> int:
        return self.record.filling

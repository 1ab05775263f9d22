"""The files A..B in .heliosfs/changes and .heliosfs/diff: they exist while the kernel knows them."""

from heliosfs.base.keys import INO_MAX
from heliosfs.fuse.numbers import pack


class Report:
    """One such file."""

    __slots__ = ("container", "lookups", "name", "number", "view_number")

    def __init__(self, number: int, view_number: int, container: int, name: bytes) -> None:
        self.number = number
        self.view_number = view_number
        self.container = container
        self.name = name
        self.lookups = 0


class Reports:
    """All that the kernel knows."""

    def __init__(self) -> None:
        self._by_number: dict[int, Report] = {}
        self._by_name: dict[tuple[int, int, bytes], Report] = {}
        self._next = INO_MAX

    def enter(self, view_number: int, container: int, name: bytes) -> Report:
        """The file of that name, which the kernel holds once more."""
        place = (view_number, container, name)
        report = self._by_name.get(place)
        if report is None:
            report = Report(pack(view_number, self._next), view_number, container, name)
            self._next += 1
            self._by_name[place] = self._by_number[report.number] = report
        report.lookups += 1
        return report

    def get(self, number: int) -> Report | None:
        return self._by_number.get(number)

    def forget(self, number: int, lookups: int) -> None:
        """The kernel let go of that many look-ups."""
        report = self._by_number.get(number)
        if report is None:
            return
        report.lookups -= lookups
        if report.lookups <= 0:
            del self._by_number[number]
            del self._by_name[report.view_number, report.container, report.name]

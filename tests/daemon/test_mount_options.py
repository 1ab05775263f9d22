"""The words after -o."""

import pytest

from heliosfs.daemon.mount_options import describe, parse
from heliosfs.fuse.options import Options


def test_defaults() -> None:
    assert parse([]) == Options() == parse(["", ","])


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("list_magic", "list_magic", True),
        ("list-magic", "list_magic", True),
        ("allow_other=no", "allow_other", False),
        ("exec=0", "exec", False),
        ("suid=YES", "suid", True),
        ("spin_microseconds=0", "spin_microseconds", 0),
        ("copiers=robocopy:dump", "copiers", ("robocopy", "dump")),
        ("ro", "read_only", True),
        ("exec,noexec", "exec", False),
        ("dev,suid,nodev", "dev", False),
        ("suid,nosuid", "suid", False),
        ("relatime,noatime", "relatime", False),
        ("branch=a/b", "branch", "a/b"),
    ],
)
def test_a_word_sets_a_field(words: str, field: str, value: object) -> None:
    assert getattr(parse([words]), field) == value


def test_the_last_word_counts_and_switches_stand_above_words() -> None:
    assert not parse(["ro,rw"]).read_only
    assert parse(["rw"], read_only=True).read_only
    assert parse(["branch=a"], branch="b").branch == "b"
    assert parse(["list_magic", "list_magic=no,dev"]) == Options(dev=True)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("nonsense", "there is no option 'nonsense'"),
        ("list_magic=maybe", "list_magic is yes or no"),
        ("spin_microseconds", "needs a value"),
        ("spin_microseconds=many", "is a number"),
        ("copiers", "needs a value"),
    ],
)
def test_wrong_words_are_explained(words: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse([words])


def test_every_word_that_can_be_chosen_is_described() -> None:
    listed = {line.split()[0] for line in describe().splitlines()}
    assert listed == {name for name in Options.__slots__ if name not in ("branch", "read_only")}

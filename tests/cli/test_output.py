"""How names, sizes and tables are printed."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from heliosfs.base.quoting import shown
from heliosfs.cli import output, progress

NAMES = some.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name)


@pytest.mark.parametrize("name", ["a", "before damage", "résumé", "x-1_2.3", "日本", "a/b c/d"])
def test_a_clear_name_is_shown_as_it_is(name: str) -> None:
    assert shown(name) == name


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        (b"a\nb", r"$'a\nb'"),
        (b"\x1b[31mred", r"$'\e[31mred'"),
        (b"\xff", r"$'\xff'"),
        (b" a", "$' a'"),
        (b"a ", "$'a '"),
        (b"it's", r"$'it\'s'"),
        (b"a\\n", r"$'a\\n'"),
        ("a\u202eb".encode(), r"$'a\xe2\x80\xaeb'"),
        (b"", "$''"),
        (b"$HOME", "$'$HOME'"),
    ],
)
def test_any_other_name_is_quoted(name: bytes, quoted: str) -> None:
    assert shown(name) == quoted


@settings(max_examples=200, deadline=None)
@given(some.lists(NAMES, min_size=1, max_size=10))
def test_what_is_shown_can_be_pasted_into_a_shell(names: list[bytes]) -> None:
    texts = [shown(name) for name in names]
    for text in texts:
        assert text.isprintable()
    # Unquoted names may hold blanks; a shell needs quotes for those, and nothing is special inside them.
    words = " ".join(text if text.startswith("$'") else f"'{text}'" for text in texts)
    script = f"printf '%s\\0' {words}".encode()
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=120, check=True)
    assert done.stdout == b"".join(name + b"\0" for name in names)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (12 * 1024, "12.0 KiB"),
        (999 * 1024, "999 KiB"),
        (1 << 20, "1.00 MiB"),
        (5 << 40, "5.00 TiB"),
        (1 << 70, "1024 EiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert output.size(number) == text


def test_a_table_has_aligned_columns_and_no_colour_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NO", "NAME"), [("1", "a"), ("10", "long")], right=(0,))
    assert capsys.readouterr().out == "NO  NAME\n 1  a\n10  long\n"


def test_an_empty_table_still_has_its_heads(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "BY"), [])
    assert capsys.readouterr().out == "NAME  BY\n"


def test_values_are_written_for_people() -> None:
    lines = output.readable(
        {
            "stored_bytes": 2048,
            "ratio": 1.5,
            "alive": True,
            "of": None,
            "cache": {"hits": 123456},
            "names": [],
        }
    )
    assert lines == [
        ("stored", "2.00 KiB"),
        ("ratio", "1.50"),
        ("alive", "yes"),
        ("of", "-"),
        ("cache", ""),
        ("  hits", "123,456"),
        ("names", "-"),
    ]


def test_progress_fits_a_line_and_has_a_bar_where_the_whole_is_known() -> None:
    assert progress.line(progress.State(3, 2048), 2) == "3 files, 2.00 KiB, 1.00 KiB/s"
    half = progress.line(progress.State(10**8, 1 << 50, 5, 10), 1)
    assert half.startswith("[" + "#" * 15 + "-" * 15 + "]  50%  ") and len(half) < 80
    assert progress.line(progress.State(1, 1, 11, 10), 1).startswith("[" + "#" * 30 + "] 100%")

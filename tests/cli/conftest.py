"""A daemon made of a dictionary: what each verb returns, and what was asked of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from heliosfs.cli import call, main


@dataclass
class Fake:
    """Stands where `.heliosfs/call` is: `results` by verb, `asked` in order."""

    results: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def exchange(self, path: str, request: bytes) -> bytes:
        asked = json.loads(request)
        self.paths.append(path)
        self.asked.append((asked["verb"], asked["arguments"]))
        if asked["verb"] in self.refusals:
            number, text = self.refusals[asked["verb"]]
            return json.dumps({"ok": False, "errno": number, "error": text}).encode()
        return json.dumps({"ok": True, "result": self.results.get(asked["verb"], {})}).encode()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    daemon = Fake()
    monkeypatch.setattr(call, "exchange", daemon.exchange)
    monkeypatch.setattr(call, "tree_root", lambda path: path)
    return daemon


@dataclass
class Outcome:
    code: int
    output: str
    error: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command with these words in this process."""

    def run_words(*words: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["heliosfs", *words])
        with pytest.raises(SystemExit) as ending:
            main.main()
        captured = capsys.readouterr()
        code = ending.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    return run_words

from __future__ import annotations

import time

from sttp_riemann.lab import progress


def test_a_line_tells_how_far_work_has_come():
    with progress.progress(8, "compare", "run", initial=1) as lines:
        lines.update(2)
        lines.set_postfix({"accuracy": 0.98765})
        assert str(lines) == "compare: run 3 of 8 after 0:00 min, accuracy 0.9877"


def test_lines_come_by_themselves_while_work_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.01)
    told = ""
    with progress.progress(8, "compare", "run"):
        while not told:
            time.sleep(0.01)
            told = capsys.readouterr().err
    assert told.startswith("compare: run 0 of 8")


def test_a_terminal_has_a_bar(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.progress(8, "compare", "run") as bar:
        assert type(bar).__name__ == "tqdm"

from __future__ import annotations

import gzip
import json

import pytest

from sttp_riemann.errors import LONGEST, CheckpointError
from sttp_riemann.lab import verbs
from sttp_riemann.lab.studies import archive
from sttp_riemann.lab.studies.archive import ARCHIVE, pack, unpack
from sttp_riemann.lab.studies.runs import find
from tests.lab.studies.conftest import result, store, study


@pytest.fixture
def kept(tmp_path):
    """A study's report, and the folders of its runs."""
    runs = store(study(), tmp_path / "runs")
    verbs.report([runs], output=tmp_path / "kept")
    return runs, tmp_path / "kept"


def test_a_report_of_an_archive_is_that_of_its_runs(kept, tmp_path):
    runs, folder = kept
    for file in runs.rglob("*.json"):
        file.unlink()
    again = verbs.report([folder], output=tmp_path / "again")
    assert not again.skipped
    for name in ("report.md", "results.csv"):
        ours, theirs = ((place / name).read_text() for place in (folder, tmp_path / "again"))
        assert ours == theirs.replace("# again", "# kept")


def test_an_archive_of_the_same_runs_has_the_same_bytes(kept):
    folder = kept[1]
    assert (folder / ARCHIVE).read_bytes() == pack(find([folder])[0])


def test_an_archive_has_no_path_of_the_machine(tmp_path):
    run = result("dense", output="/home/me/out", data_root="/home/me/data")
    content = gzip.decompress(pack([{**run, "folder": tmp_path / "dense" / "seed0"}])).decode()
    assert "/home/me" not in content
    assert json.loads(content)["folder"] == "dense/seed0"


def test_numbers_are_kept_to_six_digits():
    run = {**result("dense"), "ratio": 12.3456789, "folder": "a/b"}
    assert json.loads(gzip.decompress(pack([run])))["ratio"] == 12.3457


def test_the_folder_of_a_run_comes_before_an_archive(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(pack([{**result("dense", ratio=50.0), "folder": tmp_path / "x" / "0"}]))
    store([result("dense", ratio=60.0)], tmp_path / "x")
    assert [run["ratio"] for run in find([tmp_path])[0]] == [60.0]


@pytest.mark.parametrize("folder", ["/etc/x", "../x", "a/../../x", ""])
def test_an_archive_cannot_name_a_folder_elsewhere(tmp_path, folder):
    line = json.dumps({**json.loads(gzip.decompress(pack([result("dense")]))), "folder": folder})
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(line.encode()))
    with pytest.raises(CheckpointError, match="a run's folder is"):
        list(unpack(tmp_path / ARCHIVE))


BRACE, LIST, EMPTY, BYTE = (gzip.compress(text, mtime=0) for text in (b"{", b"[]", b"{}", b"\xff"))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"text", BRACE, LIST, EMPTY, BYTE, EMPTY[:-4]])
def test_a_damaged_archive_is_skipped_by_name(tmp_path, content):
    (tmp_path / ARCHIVE).write_bytes(content)
    runs, skipped = find([tmp_path])
    assert not runs
    assert all(ARCHIVE in reason and len(reason) <= LONGEST for reason in skipped)
    assert len(skipped) == (content != b"")


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 1000)
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(b" " * 10**6))
    with pytest.raises(CheckpointError, match="unpacks to more than 1,000 bytes"):
        list(unpack(tmp_path / ARCHIVE))


def test_a_run_of_an_archive_that_is_no_result_is_skipped(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(pack([{**result("dense"), "dof": "many"}]))
    runs, skipped = find([tmp_path])
    assert not runs
    assert "dof is not a number" in skipped[0]

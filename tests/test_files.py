from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sttp_riemann.errors import LONGEST, CheckpointError, RecipeError, one_line
from sttp_riemann.files import LOCK, Lock, check_writable, child, parse_json, real_folder, write_atomically

SIZE = 2**20


def write_often(path: Path, letter: bytes) -> None:
    for _ in range(60):
        write_atomically(path, letter * SIZE)


def test_two_writers_never_tear_a_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"a" * SIZE)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_often, args=(path, letter)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        content = path.read_bytes()
        assert len(content) == SIZE
        seen.add(frozenset(content))
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen <= {frozenset(b"a"), frozenset(b"b")}
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "run" / "result.json"
    victim.write_text("precious")
    path.parent.mkdir()
    path.symlink_to(victim)
    write_atomically(path, b"new")
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"


def test_a_partial_file_is_never_one_that_was_there(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".sttp-guessed.partial").symlink_to(victim)
    with pytest.raises(CheckpointError, match=r"could not write .*file"):
        write_atomically(tmp_path / "file", b"new")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("below", ["figures", "figures/deep"])
def test_a_folder_that_is_a_link_is_refused_below_the_one_that_was_chosen(below, tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="a link or a file is where a folder"):
        write_atomically(tmp_path / "run" / below / "loss.png", b"new", inside=tmp_path / "run")
    with pytest.raises(CheckpointError, match="a link or a file is where a folder"):
        real_folder(tmp_path / "run", "figures")
    assert [p.name for p in (tmp_path / "elsewhere").rglob("*")] == ["deep"]


def test_the_folder_that_the_user_chose_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    write_atomically(tmp_path / "run" / "figures" / "loss.png", b"new", inside=tmp_path / "run")
    assert (tmp_path / "disk" / "figures" / "loss.png").read_bytes() == b"new"


def test_the_folder_is_synchronized_after_the_file_is_in_place(tmp_path, monkeypatch):
    seen = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (seen.append(os.readlink(f"/proc/self/fd/{file}")), sync(file)))
    write_atomically(tmp_path / "file", b"new")
    assert seen[0].endswith(".partial")
    assert seen[1:] == [str(tmp_path)]


def test_what_cannot_be_written_is_told_before(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"report.md cannot be written"):
        check_writable(tmp_path / "file" / "report.md")
    with pytest.raises(CheckpointError, match="cannot be written"):
        check_writable(tmp_path)
    check_writable(tmp_path / "new" / "deep" / "report.md")
    check_writable(Path("report.md"))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "name", ["../../x", "..", ".", "", "/etc", "a/b", "a\nb", "a\x1b[2J", "a\0b", "a" * 256, "ä" * 128, "\udcff"]
)
def test_a_name_that_leads_elsewhere_is_refused_in_one_line(name):
    with pytest.raises(RecipeError) as error:
        child(Path("runs"), name)
    assert len(str(error.value)) <= LONGEST
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["digits", "..x", "a b", "ä" * 127, "-rf", "cifar10, r=4"])
def test_any_other_name_is_a_folder(name):
    assert child(Path("runs"), name) == Path("runs") / name


def test_a_locked_folder_is_refused_until_it_is_released(tmp_path):
    with Lock(tmp_path / "run"), pytest.raises(CheckpointError, match=r"another run is in .*run: wait for its end"):
        Lock(tmp_path / "run")
    Lock(tmp_path / "run").release()


def test_a_killed_process_keeps_no_lock(tmp_path):
    program = (
        f"from sttp_riemann.files import Lock; from pathlib import Path; lock = Lock(Path({str(tmp_path)!r})); "
        "print('locked', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(CheckpointError, match="another run"):
            Lock(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    Lock(tmp_path).release()


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / LOCK).symlink_to(tmp_path / "created")
    with pytest.raises(CheckpointError, match="a link or a file is where a folder"):
        Lock(tmp_path)
    assert not (tmp_path / "created").exists()


def test_what_a_killed_writer_left_is_removed_with_the_lock(tmp_path):
    (tmp_path / "samples").mkdir()
    left = [tmp_path / ".sttp-1.partial", tmp_path / "samples" / ".sttp-2.partial"]
    Lock(tmp_path / "run").release()
    # A run of its own in a folder below may be writing just now
    kept = [tmp_path / "mine.partial", tmp_path / "run" / ".sttp-3.partial"]
    for path in (*left, *kept):
        path.touch()
    with Lock(tmp_path):
        assert [path.exists() for path in (*left, *kept)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ('[{"b": {"a": 1, "a": 1}}]', "'a' occurs twice"),
        ("[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ('{"a":' * 65 + "0" + "}" * 65, "nested deeper than 64 levels"),
        ("[" * 10**6, "nested deeper than 64 levels"),
        ("{", "Expecting"),
        ("1 2", "Extra data"),
    ],
)
def test_json_that_readers_take_differently_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_ordinary_json_is_read(tmp_path):
    assert parse_json('{"a": [1, 2.5, null, "x", {"b": true}]}') == {"a": [1, 2.5, None, "x", {"b": True}]}
    assert parse_json("[" * 64 + "]" * 64)


def test_a_message_is_one_line_that_ends_with_its_remedy():
    text = one_line("it\n\tfails\x1b[2J " + "x" * 10**7 + ": delete it")
    assert len(text) <= LONGEST
    assert text.isprintable()
    assert text.startswith("it fails?[2J x")
    assert text.endswith("x: delete it")


def test_a_name_that_no_file_can_have_is_refused_in_advance_and_on_writing(tmp_path):
    for name in ("\ud800", "a\0b"):
        with pytest.raises(CheckpointError, match="cannot be written"):
            check_writable(tmp_path / name)
        with pytest.raises(CheckpointError, match="could not write"):
            write_atomically(tmp_path / name, b"")

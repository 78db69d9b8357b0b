from __future__ import annotations

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sttp_riemann.lab.training.logbook import Logbook


def read(folder) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def test_figures_are_found_by_tensorboard(tmp_path):
    book = Logbook(tmp_path, step=0)
    book.write(5, {"loss": 0.5})
    book.write(10, {"loss": 0.25})
    book.close()
    assert read(tmp_path) == [(5, 0.5), (10, 0.25)]


def test_a_run_that_goes_on_hides_what_it_does_again(tmp_path):
    for begin, steps in ((0, (5, 10)), (5, (10, 15))):
        book = Logbook(tmp_path, begin)
        for step in steps:
            book.write(step, {"loss": float(begin)})
        book.close()
    assert read(tmp_path) == [(5, 0.0), (10, 5.0), (15, 5.0)]

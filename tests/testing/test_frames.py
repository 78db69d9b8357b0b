"""Every kind of frame passes the public check, and kinds that are wrong in one way do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import sttp_riemann as sr
import sttp_riemann.testing
from sttp_riemann.frames import FRAMES, Frames, HouseholderFrames, RiemannianFrames


@pytest.mark.parametrize("kind", FRAMES)
def test_every_row_passes(kind: str) -> None:
    sr.testing.check_frame(kind)


def test_a_kind_needs_no_row_and_gets_none() -> None:
    class Own(RiemannianFrames):
        pass

    before = dict(FRAMES)
    sr.testing.check_frame(Own)
    assert before == FRAMES


class Unsigned(HouseholderFrames):
    """Forgets the signs of columns."""

    def assign_(self, k: int, frame: Tensor) -> None:
        super().assign_(k, frame)
        self._buffers[f"sign_{k}"].fill_(1)


class Scaled(RiemannianFrames):
    """Gives frames that are too long."""

    @staticmethod
    def materialize(core: Any, *stacks: Tensor) -> Tensor:
        return stacks[0] * (1 + stacks[0].square().mean())


class Miscounted(HouseholderFrames):
    """Counts a number too many."""

    @staticmethod
    def numbers(core: Any) -> int:
        return core.dof + 1


class Crooked(HouseholderFrames):
    """Its own backward is wrong."""

    @classmethod
    def trace(cls, core: Any, *stacks: Tensor) -> Any:
        frames, pull = HouseholderFrames.trace(core, *stacks)
        return frames, lambda grad: [None if g is None else 2 * g for g in pull(grad)]


class Shared(RiemannianFrames):
    """Copies are the thing itself."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unsigned, "Unsigned, 4 x 1 in St_U: a frame that is given is not the one that is held"),
        (Scaled, "a frame that is given is not the one that is held"),
        (Miscounted, "`numbers` is 4, and 3 are trained"),
        (Crooked, "`trace` gives another gradient"),
        (Shared, "a copy of a model shares memory with it|changes the weights|weights change"),
        ("cayley", "there is no kind of frame 'cayley'; FRAMES has riemannian, householder"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(kind: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message) as raised:
        sr.testing.check_frame(kind)
    assert "\n" not in str(raised.value)


def test_a_parameter_without_effect_is_found() -> None:
    class Idle(RiemannianFrames):
        @staticmethod
        def materialize(core: Any, *stacks: Tensor) -> Tensor:
            return stacks[0].detach() + 0 * stacks[0]

        trace = classmethod(Frames.trace.__func__)

    with pytest.raises(AssertionError, match=r"the Jacobian has rank 0, and the frame has \d+ degrees of freedom"):
        sr.testing.check_frame(Idle)


def test_frames_that_leave_their_manifold_are_found() -> None:
    class Loose(RiemannianFrames):
        def hold(self, k: int, frame: Tensor) -> None:
            self.register_parameter(str(k), torch.nn.Parameter(frame.clone()))

        def restore(self) -> None:
            pass

    with pytest.raises(AssertionError, match="frames are not orthonormal after their numbers have moved"):
        sr.testing.check_frame(Loose)

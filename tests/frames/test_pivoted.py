"""Householder frames that any rows may lead."""

import torch

import sttp_riemann as sr
import sttp_riemann.testing
from sttp_riemann.frames import HouseholderFrames, PivotedFrames
from sttp_riemann.frames.householder import compact_wy, reflectors_of
from sttp_riemann.trains.shape import Core

CORE = Core(2, 6, 4, reduced=True)


def _held(seed: int = 0) -> PivotedFrames:
    generator = torch.Generator().manual_seed(seed)
    held = PivotedFrames(
        [CORE] * 2,
        [torch.eye(12, 4, dtype=torch.float64)] * 2,
        [torch.randperm(12, generator=generator) for _ in range(2)],
    )
    with torch.no_grad():
        for parameter in held.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return held


def test_pivoted_frames_pass_the_battery_of_all_kinds() -> None:
    sr.testing.check_frame(PivotedFrames)


def test_a_pivoted_frame_is_the_plain_one_with_its_rows_in_order() -> None:
    held = _held()
    for k in range(2):
        plain = HouseholderFrames.materialize(CORE, *(held.tensors(k)[i][None] for i in (0, 2)))[0]
        torch.testing.assert_close(held.frame(k, torch.float64)[held.order(k)], plain, rtol=0, atol=1e-14)


def test_gradients_of_gradients_pass_through_the_order() -> None:
    held = _held()
    sign, rows, entries = (t.detach()[None] for t in held.tensors(0))
    assert torch.autograd.gradgradcheck(
        lambda e: PivotedFrames.materialize(CORE, sign, rows, e), entries.requires_grad_()
    )


def test_rows_stay_whole_numbers_when_a_model_is_cast() -> None:
    held = _held()
    rows = held.order(0).clone()
    for cast in (held.half(), held.to(torch.bfloat16), held.double()):
        assert torch.equal(cast.order(0), rows)
        assert cast.order(0).dtype == torch.int64


def test_narrow_states_load_with_rows_as_they_are() -> None:
    held, other = _held(0), _held(1)
    state = {k: v.half() if v.is_floating_point() else v for k, v in held.state_dict().items()}
    other.load_state_dict(state, assign=True)
    assert torch.equal(other.order(0), held.order(0))
    assert other.tensors(0)[0].dtype == torch.float32


def test_reflectors_with_given_signs_make_the_frame() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.linalg.qr(torch.randn(5, 9, 4, dtype=torch.float64, generator=generator)).Q
    signs = torch.randint(0, 2, (5, 4), generator=generator).double() * 2 - 1
    reflectors, kept = reflectors_of(frames, signs)
    assert torch.equal(kept, signs)
    torch.testing.assert_close(compact_wy(reflectors, signs), frames, rtol=0, atol=1e-10)
    # The shortest ones are those that LAPACK makes
    torch.testing.assert_close(reflectors_of(frames, reflectors_of(frames)[1])[0], reflectors_of(frames)[0])

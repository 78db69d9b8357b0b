"""Export a trained network with ordinary dense layers, for programs without this package."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from sttp_riemann.errors import RecipeError
from sttp_riemann.files import check_writable, write_atomically
from sttp_riemann.lab.training.represent import Inputs
from sttp_riemann.lab.training.saved import Saved
from sttp_riemann.lab.training.stability import plain_copy


def export(saved: Saved, path: Path) -> None:
    """Write the network of a run with dense weights, in the format given by the file's suffix.

    Parameters
    ----------
    saved : Saved
        Holds the classifier to write; not changed.
    path : Path
        ``.safetensors``: its ``state_dict``. ``.onnx``: ONNX. ``.pt2``: a program of `torch.export`. The latter two
        map inputs (N, ...), such as images (N, channels, size, size), for any N, to class scores.

    Raises
    ------
    RecipeError
        The format is unknown, what it needs is not installed, the checkpoint is a GAN's, or it does not say how large
        inputs are.
    CheckpointError
        The file cannot be written; an existing file is then intact.
    """
    if path.suffix not in FORMATS:
        raise RecipeError(f"cannot export to {path}: name a file that ends with {', '.join(FORMATS)}")
    check_writable(path)
    model = plain_copy(saved.network, saved.recipe.network.low_rank).cpu().eval()
    if path.suffix != ".safetensors" and not saved.inputs.known:
        raise RecipeError(
            f"{saved.path} does not say how large inputs are: name a .safetensors file, or compress it with --data"
        )
    write_atomically(path, FORMATS[path.suffix](model, saved.inputs))


def _safetensors(model: nn.Module, inputs: Inputs) -> bytes:
    # Tied weights share memory, which safetensors refuses
    return save({name: tensor.detach().contiguous().clone() for name, tensor in model.state_dict().items()})


def _onnx(model: nn.Module, inputs: Inputs) -> bytes:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise RecipeError(f"export to .onnx needs {' and '.join(missing)}: pip install 'sttp-riemann[export]'")
    with _quiet():
        program = torch.onnx.export(
            model,
            (inputs.example(2),),
            input_names=["images" if inputs.kind == "images" else "inputs"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _pt2(model: nn.Module, inputs: Inputs) -> bytes:
    content = io.BytesIO()
    program = torch.export.export(model, (inputs.example(2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, content)
    return content.getvalue()


FORMATS: dict[str, Callable[[nn.Module, Inputs], bytes]] = {".safetensors": _safetensors, ".onnx": _onnx, ".pt2": _pt2}
"""Functions that write a network, by file suffix."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the converter's remarks on operators that no network here has."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

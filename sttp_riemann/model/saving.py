"""Save a reparameterized model with all that makes its layers, and load it into a dense one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from sttp_riemann.checks import check_flag, check_kind
from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import check_writable, write_atomically
from sttp_riemann.layers import Adapted
from sttp_riemann.model.contents import content
from sttp_riemann.model.conversion import convert_layers
from sttp_riemann.model.fitting import Fit
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.model.naming import naming, translated
from sttp_riemann.model.states import leave_meta, matched
from sttp_riemann.model.stored import FORMAT, Stored, read
from sttp_riemann.sealed import SealError, seal

PATH = "a path"


def save(model: nn.Module, path: str | os.PathLike[str], compact: bool = False) -> None:
    """Write a reparameterized model, with all that `load` needs to make its layers anew.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    path : str or path
        A safetensors file; it is replaced atomically. A model of transformers without adapters is written by its
        ``save_pretrained`` into a folder of this name, unless the name ends with ``.safetensors``.
    compact : bool
        Whether the file has no more numbers than the weights have degrees of freedom: frames are written as the free
        entries of their reflectors, and many small tensors in few large ones. Outputs after `load` are then equal up to
        rounding; otherwise, bit for bit.

    Raises
    ------
    TypeError
        `model` is not a module, or `path` not a path.
    ValueError
        The model has no reparameterized layer, or something that cannot be saved; or a compact file is asked for with
        a name that does not end with ``.safetensors``, or of layers that hold NaN.
    CheckpointError
        The file cannot be written; an existing one is then intact.

    Notes
    -----
    The file holds the state, each tied tensor once, and in its header, as JSON: the options of every reparameterized
    layer, the names of frozen parameters, the tied names, and checksums of all of it. Nothing in it is executed.

    Of a model with adapters, the file has what adapters own, what else is trained, and buffers. Of frozen weights it
    has digests: `load` needs a model with the same pretrained weights.

    Examples
    --------
    >>> import pathlib, tempfile, torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), budget=0.3, init="dense")
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
    >>> sr.save(model, path)
    >>> again = sr.load(path, torch.nn.Linear(64, 32))
    >>> torch.equal(again(torch.eye(64)), model(torch.eye(64)))
    True
    """
    spectral_layers(model)
    file = Path(check_kind("path", path, str | os.PathLike, PATH))
    adapters = any(isinstance(layer, Adapted) for layer in model.modules())
    if check_flag("compact", compact) and file.suffix != ".safetensors":
        raise ValueError(f"a compact file is one of its own: give path a name that ends with .safetensors, not {file}")
    if file.suffix != ".safetensors" and callable(getattr(model, "save_pretrained", None)) and not adapters:
        model.save_pretrained(file)  # type: ignore[operator]
        read(file, whole=False)  # adapters of peft, say, are written without what they adapt
        return
    check_writable(file)
    try:
        data = seal(*content(model, compact), FORMAT)
    except SealError as error:
        raise CheckpointError(f"{file} {error}") from error
    write_atomically(file, data)


def load(path: str | os.PathLike[str] | Mapping[str, Tensor], model: nn.Module) -> nn.Module:
    """Reparameterize a dense model as a saved one was, and load its state, in place.

    Parameters
    ----------
    path : str, path or mapping
        A file of `save`; a safetensors file of a state, or a folder of ``save_pretrained``; or a state, such as
        ``torch.load`` reads it.
    model : nn.Module
        Fresh and dense, on any device or on the meta device, from which it goes to the CPU; or reparameterized as the
        saved one; for a file of adapters, with the pretrained weights. Layers get the same ranks, options and settings,
        parameters are frozen if they were, and tied ones have to be tied. Where a state is all there is, layers have
        their default settings, and parameters are frozen as they are in `model`.

    Returns
    -------
    nn.Module
        The same model: outputs and training go on as those of the saved one, bit for bit. Create optimizers afterwards.

    Raises
    ------
    TypeError
        `model` is not a module, or `path` is something else.
    CheckpointError
        The file is missing or damaged, or the model does not fit it; the message names the layer or the name in the
        state. The model is then unchanged.

    Notes
    -----
    W = U diag(s) V^T, Obukhov et al. 2021, Section 3: ranks, modes and frames are those of the file, which can depend
    on weights that the fresh model does not have.

    Examples
    --------
    >>> import pathlib, tempfile, torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), rank=4)
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
    >>> sr.save(model, path)
    >>> with torch.device("meta"):
    ...     fresh = torch.nn.Linear(64, 32)
    >>> sr.load(path, fresh).rank
    4
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    source = check_kind("path", path, str | os.PathLike | Mapping, f"{PATH}, or a state as torch.load reads it")
    return restore(model, read(source if isinstance(source, Mapping) else Path(source)))


def restore(model: nn.Module, stored: Stored) -> nn.Module:
    """Reparameterize a dense model as one that was read, and load its state, in place.

    Parameters
    ----------
    model : nn.Module
        As `load` takes it.
    stored : Stored
        What was read.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    CheckpointError
        The model does not fit. It is then unchanged.
    """
    if stored.tied is None:  # others wrote it
        stored = translated(stored, naming(stored, model))
    fit = Fit(model, stored)
    fit.check_dtypes()
    tensors = matched(fit)
    # Nothing can fail from here on
    fit.apply()
    leave_meta(model)
    state = model.state_dict()
    state.update(tensors)  # which keeps the versions of layouts that some modules of torch have
    model.load_state_dict(state)
    if stored.frozen is not None:
        for name, parameter in model.state_dict(keep_vars=True).items():
            if isinstance(parameter, nn.Parameter) and parameter.is_floating_point():
                parameter.requires_grad_(name not in stored.frozen)
    if stored.packed is not None:
        layers, kinds = spectral_layers(model), stored.packed.frames
        for frames in set(kinds.values()):
            convert_layers({name: layer for name, layer in layers.items() if kinds.get(name) == frames}, frames)
    return model

"""Load reparameterized models of transformers, which is not imported here: the caller passes its classes."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sttp_riemann.checks import check_kind, shown
from sttp_riemann.errors import CheckpointError, one_line
from sttp_riemann.model.fitting import Fit
from sttp_riemann.model.naming import layer_named, naming, translated
from sttp_riemann.model.states import matched
from sttp_riemann.model.stored import EXTRA, Stored, owner_of, read, tensors_of, under

REFUSED = ("output_loading_info", "state_dict", "subfolder", "variant")
"""Arguments of transformers that would load something else than is read here."""


def from_pretrained(cls: Any, path: str | os.PathLike[str], **kwargs: Any) -> nn.Module:
    """Load a reparameterized model that ``save_pretrained`` of transformers wrote.

    Parameters
    ----------
    cls : type
        A class of transformers: that of the model, or an automatic one such as ``AutoModel``.
    path : str or path
        The folder, on this machine. Weights may be in one safetensors file or in several.
    **kwargs
        For ``cls.from_pretrained``, such as ``dtype`` or ``attn_implementation``.

    Returns
    -------
    nn.Module
        The model, with the same outputs.

    Raises
    ------
    TypeError
        `cls` is not such a class, or `path` not a path.
    ValueError
        An argument is not supported here.
    CheckpointError
        The folder is missing or damaged, has no reparameterized layer, or a layer of it does not fit the model.

    Notes
    -----
    Each layer tells its options in the state, so checkpoints of a ``Trainer`` can be loaded, too. Without ``dtype`` the
    weights get the one that they were saved with. A warning names what is in the folder and not in the model, or the
    other way round, such as a new head.

    Examples
    --------
    >>> import tempfile, torch, transformers, sttp_riemann as sr
    >>> sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=32, **sizes))
    >>> model = sr.reparameterize(model, rank=4).eval()
    >>> folder = tempfile.mkdtemp()
    >>> model.save_pretrained(folder)
    >>> again, tokens = sr.from_pretrained(transformers.AutoModel, folder), torch.arange(8)[None]
    >>> torch.equal(again(tokens).last_hidden_state, model(tokens).last_hidden_state)
    True
    """
    make = getattr(cls, "from_pretrained", None)
    if not isinstance(cls, type) or not callable(make):
        raise TypeError(f"cls must be a class with from_pretrained, such as transformers.AutoModel, got {shown(cls)}")
    for name in REFUSED:
        if name in kwargs:
            raise ValueError(f"{name} is not supported by sr.from_pretrained; leave it out")
    folder = Path(check_kind("path", path, str | os.PathLike, "a path"))
    if not os.path.isdir(folder):  # unlike the method of Path, this reports a name that is too long as missing
        raise CheckpointError(f"there is no folder {folder}; download a model of a hub first")
    stored = read(folder, whole=False)
    chosen = "dtype" in kwargs or "torch_dtype" in kwargs
    with _quiet({under(name, "weight") for name in stored.layers}):
        model, loading = make(folder, output_loading_info=True, **({} if chosen else _dtype_of(stored)), **kwargs)
    way = naming(stored, model, prefixes=True)
    present = translated(stored, way)
    fit = Fit(model, present)
    pieces = {under(name, "weight") for name in fit.pieces}
    held = tensors_of(folder, lambda name: way(name) in pieces)
    own = {name: tensor for name, tensor in present.tensors.items() if owner_of(name, present.layers) is not None}
    present.tensors = own | {str(way(name)): tensor for name, tensor in held.items()}
    if not chosen:
        fit.check_dtypes()
    for name, layer in fit.layers.items():
        if any(parameter.is_meta for parameter in layer.parameters(recurse=False)):
            raise fit.error(name, "has no memory in this device_map; choose one that offloads nothing to the disk")
    tensors = matched(fit, whole=False)
    fit.apply()
    model.load_state_dict(tensors, strict=False)
    drawn = {*loading["missing_keys"]} - fit.replaced
    # transformers may tell the name of the file, of the model, or one between
    every = {**stored.layers, **present.layers}

    def ours(name: str) -> bool:
        return name in pieces or owner_of(name, every) is not None

    unused = {name for name in loading["unexpected_keys"] if not ours(name) and not ours(way(name) or name)}
    dropped = {name for name in stored.layers if layer_named(way, name) is None}
    for what, names in (("were not in it and are drawn at random", drawn), ("are not used", dropped | unused)):
        if names:
            told = ", ".join(sorted(names))
            warnings.warn(one_line(f"{folder}: {len(names)} names {what}: {told}"), stacklevel=2)
    return model  # type: ignore[no-any-return]


@contextlib.contextmanager
def _quiet(weights: Collection[str]) -> Iterator[None]:
    """Without reports of transformers on what it does not know of reparameterized layers, except with an error.

    Parameters
    ----------
    weights : collection of str
        Names that these layers' weights would have in the file: tied ones that are not there look damaged to it.
    """
    held: list[logging.LogRecord] = []

    def passes(record: logging.LogRecord) -> bool:
        words = record.getMessage().split()
        about = any(EXTRA in word or word.strip(",.") in weights for word in words)
        if about:
            held.append(record)
        return not about

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(passes)
    try:
        yield
    except BaseException:
        logger.removeFilter(passes)
        for record in held:
            logger.handle(record)
        raise
    finally:
        logger.removeFilter(passes)


def _dtype_of(stored: Stored) -> dict[str, torch.dtype]:
    """The dtype of the weights where it is narrow: the configuration tells that of the first parameter, of a frame."""
    found = {told.dtype for told in stored.layers.values()}
    (dtype,) = found if len(found) == 1 else (None,)
    # Older releases know another name only
    older = getattr(sys.modules.get("transformers"), "__version__", "").startswith("4.")
    return {} if dtype is None else {"torch_dtype" if older else "dtype": dtype}

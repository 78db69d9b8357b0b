"""Text, of which a network tells the next character at every place."""

from __future__ import annotations

from pathlib import Path
from pydoc_data import topics

import torch

from sttp_riemann.lab.data.source import ArraySource, Request
from sttp_riemann.lab.data.tensors import MOST_CLASSES

LENGTH = 64
"""Characters that a network sees at a time."""
TESTED = 10
"""One part in so many, at the end, is for testing."""
FEWEST = TESTED * (LENGTH + 1)


def text(request: Request) -> ArraySource:
    """Load a text, cut into pieces of 64 characters; the label of each place is the character after it.

    Parameters
    ----------
    request : Request
        Its `argument` is a file in UTF-8, or empty for the text that comes with Python, the reference of its help.

    Returns
    -------
    ArraySource
        Inputs and labels int64 (N, 64): places in the sorted list of the characters of the whole text. The last tenth
        is for testing.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not in UTF-8, too short, or has one character only or very many.
    """
    characters = _read(request.argument) if request.argument else "\n\n".join(topics.topics.values())
    known = sorted(set(characters))
    if len(characters) < FEWEST or not 1 < len(known) <= MOST_CLASSES:
        raise ValueError(
            f"the text has {len(characters):,} characters, {len(known):,} different ones: {FEWEST} are the fewest, of "
            f"2 to {MOST_CLASSES:,} kinds"
        )
    numbers = {character: number for number, character in enumerate(known)}
    encoded = torch.tensor([numbers[character] for character in characters])
    count = (len(encoded) - 1) // LENGTH
    inputs, labels = (encoded[start : start + count * LENGTH].view(count, LENGTH) for start in (0, 1))
    kept = count - max(1, count // TESTED)
    return ArraySource(inputs[:kept], labels[:kept], inputs[kept:], labels[kept:], len(known))


def _read(name: str) -> str:
    path = Path(name).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}: give text:FILE")
    return path.read_text(encoding="utf-8")

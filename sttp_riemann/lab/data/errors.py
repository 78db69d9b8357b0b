"""Error message for an unknown name, with the closest known ones."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


def unknown_name(kind: str, name: str, known: Sequence[str]) -> ValueError:
    """Error for an unknown `name` of some `kind`, with what was probably meant and what exists.

    Parameters
    ----------
    kind : str
        The kind of thing named, such as ``"data set"``.
    name : str
        As given.
    known : sequence of str
        The existing names. Long lists are left to the documentation.
    """
    near = get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    listed = f" (known: {', '.join(known) or 'none'})" if len(known) <= 20 else ""
    return ValueError(f"unknown {kind} {name!r}{hint}{listed}")

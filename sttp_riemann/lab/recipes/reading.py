"""YAML as recipes have it: plain values, no field twice, nothing that grows while it is read."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from sttp_riemann.lab.training.plain import MOST_VALUES, shown


def load(text: bytes | str) -> Any:
    """Read one YAML document.

    Parameters
    ----------
    text : bytes or str
        The document; bytes are UTF-8.

    Returns
    -------
    Any
        Of plain values.

    Raises
    ------
    ValueError
        It is not such a document; the message continues after its name.
    """
    try:
        return yaml.load(text.decode() if isinstance(text, bytes) else text, Loader=_Loader)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start + 1})") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" at line {mark.line + 1}"
        problem = " ".join((error.problem or "").split())
        raise ValueError(f"is not valid YAML{where}: {problem[:120]}") from error
    except Exception as error:
        # What stands behind a tag is read without a look at it: "!!int ''" is an IndexError
        raise ValueError(f"is not valid YAML: {' '.join(str(error).split())[:120]}") from error


class _Loader(yaml.SafeLoader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        # Merges of merges grow as powers
        if len(node.value) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(None, None, "merges too many keys", node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            self._refuse_twins(node)
        return super().construct_mapping(node, deep)

    def _refuse_twins(self, node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{shown(key.value)} occurs twice", key.start_mark
                    )
                seen.add(key.value)

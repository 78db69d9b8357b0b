"""How ``--help`` shows an option's default."""

from __future__ import annotations

import re
from argparse import Action

from jsonargparse import DefaultHelpFormatter

DEFAULT = "default: %(default)s"
_OPTIONAL = re.compile(r"^Optional\[(.*)\]$")


class HelpFormatter(DefaultHelpFormatter):
    """Omit a default or type of None: the option's help says what applies."""

    def _get_help_string(self, action: Action) -> str:
        text: str = super()._get_help_string(action)
        if action.default is not None:
            return text
        return text.replace(f", {DEFAULT}", "").replace(f" ({DEFAULT})", "")

    def _get_type_str(self, action: Action) -> str | None:
        text: str | None = super()._get_type_str(action)
        return None if text is None else _OPTIONAL.sub(r"\1", text.replace(" | null", "").replace(", null]", "]"))

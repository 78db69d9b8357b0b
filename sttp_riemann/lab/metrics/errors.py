"""The error of a metric that cannot be measured."""

from __future__ import annotations


class MetricError(ValueError):
    """A metric that cannot be measured; the message names the remedy."""

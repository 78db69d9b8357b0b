"""Image quality: torch-fidelity's metrics, optionally with a network that needs no download."""

from sttp_riemann.lab.metrics.errors import MetricError
from sttp_riemann.lab.metrics.extractor import EXTRACTORS, register
from sttp_riemann.lab.metrics.fidelity import METRICS, MetricOptions, check, measure

__all__ = ["EXTRACTORS", "METRICS", "MetricError", "MetricOptions", "check", "measure", "register"]

"""Networks of the paper's studies and of the shipped digits, by name."""

from sttp_riemann.lab.networks.registry import NETWORKS, build_model

__all__ = ["NETWORKS", "build_model"]

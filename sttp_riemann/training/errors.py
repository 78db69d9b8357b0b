"""The package's errors, which are in `sttp_riemann.errors`."""

from sttp_riemann.errors import CheckpointError, DivergedError, RecipeError, ReportedError

__all__ = ["CheckpointError", "DivergedError", "RecipeError", "ReportedError"]

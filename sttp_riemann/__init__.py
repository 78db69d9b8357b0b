"""Spectral tensor train layers: W = U diag(s) V^T, frames held on Stiefel manifolds or as Householder reflectors."""

# ruff: noqa: E402 - import order matters here
from sttp_riemann import interruption

interruption.end_while_importing()

from sttp_riemann import compat  # noqa: F401 - before anything else imports geoopt
from sttp_riemann.batch.cached import cached
from sttp_riemann.batch.frozen import frozen
from sttp_riemann.frames import PolarStiefel
from sttp_riemann.layers import register_layer
from sttp_riemann.model.adapt import adapt
from sttp_riemann.model.adaptation import adaptation
from sttp_riemann.model.averages import averaged
from sttp_riemann.model.compression import compression
from sttp_riemann.model.conversion import convert_frames
from sttp_riemann.model.gathering import weight_gradients
from sttp_riemann.model.gauge import canonicalize, gauge_fix, register_gauge_fix
from sttp_riemann.model.lipschitz import lipschitz_bound
from sttp_riemann.model.measures import chart_margin, orthogonality_error, singular_values, spectral_penalty
from sttp_riemann.model.merging import merge, unmerge
from sttp_riemann.model.moments import input_moments
from sttp_riemann.model.operators import operator_norms
from sttp_riemann.model.pretrained import from_pretrained
from sttp_riemann.model.rank_changes import grow_ranks, shrink_ranks
from sttp_riemann.model.rank_schedule import register_rank_change
from sttp_riemann.model.reparameterize import decompress, reparameterize
from sttp_riemann.model.saving import load, save
from sttp_riemann.model.writing import project, set_weight
from sttp_riemann.optim import RiemannianAdam, RiemannianSGD

__all__ = [
    "PolarStiefel",
    "RiemannianAdam",
    "RiemannianSGD",
    "adapt",
    "adaptation",
    "averaged",
    "cached",
    "canonicalize",
    "chart_margin",
    "compression",
    "convert_frames",
    "decompress",
    "from_pretrained",
    "frozen",
    "gauge_fix",
    "grow_ranks",
    "input_moments",
    "lipschitz_bound",
    "load",
    "merge",
    "operator_norms",
    "orthogonality_error",
    "project",
    "register_gauge_fix",
    "register_layer",
    "register_rank_change",
    "reparameterize",
    "save",
    "set_weight",
    "shrink_ranks",
    "singular_values",
    "spectral_penalty",
    "unmerge",
    "weight_gradients",
]

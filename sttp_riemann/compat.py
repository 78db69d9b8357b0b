"""Import geoopt without the warning that torch gives of its compiled functions, which no user can act on."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=DeprecationWarning)
    import geoopt  # noqa: F401

from __future__ import annotations

import pytest

from sttp_riemann.lab.metrics.classifiers import load_classifier


@pytest.fixture(autouse=True)
def _cache(digits_cache):
    """No test here touches the user's own cache, and the classifier is in theirs."""
    load_classifier()

"""What studies of regressions measure and report; see `Kind`."""

from __future__ import annotations

from sttp_riemann.lab.studies.measures import OF_NUMBERS, RMSE
from sttp_riemann.lab.studies.report import render
from sttp_riemann.lab.studies.supervised import supervised

REGRESS = supervised(OF_NUMBERS, (RMSE,), render("studies/regress.md.j2"))

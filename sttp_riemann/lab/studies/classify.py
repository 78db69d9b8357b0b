"""What studies of classifiers measure and report; see `Kind`."""

from __future__ import annotations

from sttp_riemann.lab.studies.measures import OF_CLASSES
from sttp_riemann.lab.studies.report import render
from sttp_riemann.lab.studies.supervised import supervised

CLASSIFY = supervised(OF_CLASSES, (), render("studies/classify.md.j2"))

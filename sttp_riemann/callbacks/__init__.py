"""Callbacks for trainers of other packages: one module a package, which imports it."""

"""Tensor trains of orthonormal cores: shapes, contraction, TT-SVD, gauge, starts and spectra. Knows no layers."""

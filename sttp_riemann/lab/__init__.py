"""The laboratory: everything that runs experiments with the library."""

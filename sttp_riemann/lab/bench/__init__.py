"""The benchmark against the peers: one run, interleaved, medians and ratios."""

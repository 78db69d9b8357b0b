"""Many layers at once: equal cores are computed in one call, results live for one forward. Owns nothing."""

"""Many layers at once: equal cores computed in one call, results that live for one forward. Owns nothing."""

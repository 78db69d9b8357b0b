"""Studies: several runs, their table, figures and report."""

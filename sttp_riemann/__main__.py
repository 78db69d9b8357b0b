"""``python -m sttp_riemann``: the command line, for launchers that start modules."""

import sys

from sttp_riemann.lab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

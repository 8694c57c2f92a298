"""`python -m repeatr`: the same as the command `repeatr`."""

import sys

from repeatr.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m repeatr.worker FD`: the worker of another Python program."""

import sys

from repeatr.worker.server import serve

serve(int(sys.argv[1]))

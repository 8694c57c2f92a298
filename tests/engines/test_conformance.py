"""The conformance suite over the built-in engines; see conftest.py for who runs it."""

from repeatr.engines.conformance.test_ending import *  # noqa: F403
from repeatr.engines.conformance.test_files import *  # noqa: F403
from repeatr.engines.conformance.test_isolation import *  # noqa: F403
from repeatr.engines.conformance.test_process import *  # noqa: F403

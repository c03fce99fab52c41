"""Whether a run is legal in MLPerf's closed division. The command is ``python -m runtime.preflight``."""

from runtime.preflight.insist import insist_closed, insist_unchanged

__all__ = ["insist_closed", "insist_unchanged"]

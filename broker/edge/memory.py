"""How much memory this process has had at most."""

from __future__ import annotations

import resource
import sys


def peak_bytes() -> int:
    """The largest resident set so far, getrusage(2): kilobytes on Linux, bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

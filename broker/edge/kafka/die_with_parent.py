"""Run a program that ends when its parent ends, however the parent ends: `die_with_parent.py PARENT PROGRAM
ARGS…`.

A script of its own, run with `python -I -S`: it sets the kernel's parent-death signal (Linux, prctl(2)
PR_SET_PDEATHSIG) in the child and then becomes the program. Doing the same between fork and exec of a parent
that has threads could deadlock. Elsewhere than on Linux the program simply starts.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, program = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the signal was set
            sys.exit(1)
    os.execv(program, sys.argv[2:])  # noqa: S606 - that is its purpose; no shell, on purpose

"""Runs a plugin's program: `python -m pygo_plugin.run PROGRAM [ARGUMENT...]`.

It does the same as `python PROGRAM`. In addition, the line "panic: ...", by which go-plugin's hosts
recognize a crash, is written for failures before the program imports pygo_plugin too, including its
syntax errors (see docs/serving.md). An executable program may begin with

    #!/usr/bin/env -S python3 -m pygo_plugin.run
"""

from __future__ import annotations

import os
import runpy
import sys

__all__ = ["main"]


def main() -> None:
    """Run the program of the command line as `__main__`."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m pygo_plugin.run PROGRAM [ARGUMENT...]")
    del sys.argv[0]
    program = sys.argv[0]
    if not getattr(sys.flags, "safe_path", False):  # Python 3.11 and newer
        # With -m it is the working directory. `python PROGRAM` has the program's directory.
        sys.path[0] = os.path.dirname(os.path.realpath(program))
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()

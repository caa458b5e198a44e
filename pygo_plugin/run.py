"""Runs a plugin's program: `python -m pygo_plugin.run PROGRAM [ARGUMENT...]`.

It does what `python PROGRAM` does. But what fails before the program imports pygo_plugin, a syntax
error of its own included, has a line "panic: ..." before its traceback as well, which go-plugin's
hosts look for (see docs/serving.md). A program that is executable itself may begin with

    #!/usr/bin/env -S python3 -m pygo_plugin.run
"""

from __future__ import annotations

import os
import runpy
import sys

__all__ = ["main"]


def main() -> None:
    """Run the program that the command line names, as `__main__`."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m pygo_plugin.run PROGRAM [ARGUMENT...]")
    del sys.argv[0]
    program = sys.argv[0]
    if not getattr(sys.flags, "safe_path", False):  # Python 3.11 and newer
        sys.path[0] = os.path.dirname(os.path.realpath(program))  # where -m has put this directory
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()

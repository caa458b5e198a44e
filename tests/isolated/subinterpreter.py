"""Imports the core in a subinterpreter, with what the running version offers to make one."""

from __future__ import annotations

from typing import Any

CODE = """
import os
try:
    import pygo_plugin._core
except ImportError as error:
    os.write(1, f"ImportError: {error}\\n".encode())
else:
    os.write(1, b"imported\\n")
"""


def run(code: str) -> None:
    interpreters: Any
    try:
        import _interpreters as interpreters  # 3.13 and later
    except ImportError:
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            import _testcapi

            assert _testcapi.run_in_subinterp(code) == 0
            return
    created = interpreters.create()
    run_in = getattr(interpreters, "exec", None) or interpreters.run_string
    assert run_in(created, code) is None
    interpreters.destroy(created)


run(CODE)
import pygo_plugin._core  # noqa: E402  # the main interpreter still may

run(CODE)
print("main:", pygo_plugin._core.__name__)

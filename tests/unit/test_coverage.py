"""What `coverage run` measures of a plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 60.0


@pytest.mark.parametrize("server", ["core", "aio"])
def test_handlers_are_measured(server: str, peers: Any, make_client: Any, tmp_path: Path) -> None:
    import probe_pb2 as pb

    data = f"--data-file={tmp_path / 'data'}"
    coverage = [sys.executable, "-m", "coverage"]
    _, *script = peers.plugin("python", "--server", server)
    directory = Path(script[0]).parent
    with make_client([*coverage, "run", data, f"--include={directory}/*", *script]) as client:
        _, probe = client.dispense("probe")
        probe.Cancelled(pb.CancelledRequest(), timeout=DEADLINE)
    subprocess.run([*coverage, "json", "-q", data, "-o", tmp_path / "json"], check=True)
    (of_file,) = [
        report
        for name, report in json.loads((tmp_path / "json").read_text())["files"].items()
        if name.endswith("servicers.py")
    ]
    functions = of_file["functions"]
    assert functions["ProbeServicer.Cancelled"]["missing_lines"] == []
    assert functions["ProbeServicer.Cancelled"]["executed_lines"] != []
    assert functions["ProbeServicer.Exit"]["executed_lines"] == []

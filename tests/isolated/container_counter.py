"""The host of examples/bidirectional, its plugin in a container: `container_counter.py OPTIONS`."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from pygo_plugin import Client
from pygo_plugin.runners import ContainerRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "bidirectional"))
host: Any = importlib.import_module("host")

with Client(
    runner=ContainerRunner(**json.loads(sys.argv[1])),
    handshake_config=host.HANDSHAKE,
    plugins={"counter": host.CounterPlugin()},
) as client:
    counter = client.dispense("counter")
    counter.put("apples", 3, host.AddHelper())
    counter.put("apples", 4, host.AddHelper())
    print(f"apples = {counter.get('apples')}")

"""A host that is to be killed while its plugin runs with a runner: `runner_host.py KIND OPTIONS`.

Says which plugin it is and where. The thread that launched it is gone by then.
"""

from __future__ import annotations

import json
import sys
import threading

import pygo_plugin_peer

from pygo_plugin import Client
from pygo_plugin.runners import BubblewrapRunner, ContainerRunner

kinds = {"bubblewrap": BubblewrapRunner, "container": ContainerRunner}
client = Client(
    runner=kinds[sys.argv[1]](**json.loads(sys.argv[2])),
    handshake_config=pygo_plugin_peer.HANDSHAKE,
    plugins=pygo_plugin_peer.plugins(),
)
thread = threading.Thread(target=client.start)
thread.start()
thread.join()
assert client.ping() == ""
print(client.id, client.start().string(), flush=True)
sys.stdin.read()

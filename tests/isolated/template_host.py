"""A host that launches a plugin from a template, prints both pids, and waits to be killed.

template_host.py [ARGUMENT...]: those of the plugin.
"""

import json
import signal
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / "peers"
sys.path.insert(0, str(PEERS))

import template_plugin  # noqa: E402

from pygo_plugin import Client  # noqa: E402
from pygo_plugin._host import template  # noqa: E402

client = Client(
    [sys.executable, str(PEERS / "template_plugin.py"), *sys.argv[1:]],
    handshake_config=template_plugin.HANDSHAKE,
    plugins=template_plugin.plugins(),
    allowed_protocols=["netrpc"],
    template=True,
)
client.start()
(one,) = template._templates.values()
assert one._core is not None
print(json.dumps([client.pid, one._core.pid]), flush=True)
signal.pause()

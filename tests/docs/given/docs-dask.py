import os
import sys
from pathlib import Path

from surroundings import HANDSHAKE, write_plugin

Path("kv_service.py").write_text(
    "import kv_pb2\n\nfrom pygo_plugin import service\n\nKV = service(kv_pb2, 'KV')\n"
)
os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), *sys.path])

from distributed import LocalCluster
from kv_pb2 import PutRequest

write_plugin("plugin")
PLUGIN = [os.path.abspath("plugin")]
scheduler = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
stack.callback(scheduler.close)

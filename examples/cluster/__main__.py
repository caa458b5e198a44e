"""Has the workers of a cluster, which is started on this machine, find prime factors."""

import sys
from pathlib import Path

from distributed import Client, LocalCluster

from pygo_plugin.dask import dask_plugins

from .shared import HANDSHAKE, PLUGINS

PLUGIN = [sys.executable, str(Path(__file__).with_name("plugin.py"))]


def main() -> None:
    numbers = [10**9 + offset for offset in range(1, 9)]
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        dask_plugins(
            client,
            cmd=PLUGIN,
            plugins=PLUGINS,
            size=2,
            handshake_config=HANDSHAKE,
            allowed_protocols=["netrpc"],
        ) as plugins,
    ):
        futures = plugins.map("factors", "largest", numbers, retries=2)
        for number, future in zip(numbers, futures):
            print(f"{number}: {future.result()}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A plugin whose handshake line and whose TLS do not match."""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
from pathlib import Path

from pygo_plugin import rpc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--field", default="", help="the handshake line's certificate")
    parser.add_argument("--certificate", type=Path, help="serve with this one; without it: no TLS")
    parser.add_argument("--key", type=Path)
    parser.add_argument("--roots", type=Path, help="require certificates of clients by these")
    parser.add_argument("--lifetime", type=int, default=600, help="seconds until exit anyway")
    arguments = parser.parse_args()
    signal.alarm(arguments.lifetime)

    server = rpc.server()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "plugin")
        if arguments.certificate is None:
            server.add_insecure_port(f"unix:{path}")
        else:
            pair = (arguments.key.read_bytes(), arguments.certificate.read_bytes())
            roots = None if arguments.roots is None else arguments.roots.read_bytes()
            credentials = rpc.ssl_server_credentials([pair], roots, roots is not None)
            server.add_secure_port(f"unix:{path}", credentials)
        server.start()
        print(f"1|1|unix|{path}|grpc|{arguments.field}", flush=True)
        server.wait_for_termination()


if __name__ == "__main__":
    main()

"""Hosts that go away, in one way or another, and leave a plugin behind.

Each prints the plugin's ReattachConfig as JSON, and waits for its stdin to end where it is to be
killed.
"""

from __future__ import annotations

import gc
import sys
import threading

import host

from pygo_plugin import Client


def tell(client: Client) -> None:
    print(client.reattach_config().to_json(), flush=True)


def launch_detached() -> Client:
    client = host.make_client(detach=True)
    client.start()
    return client


def killed() -> None:
    client = host.make_client()
    client.start()
    tell(client)
    sys.stdin.read()


def thread_gone() -> None:
    """The plugin goes on when the thread that launched it ends. Then as in killed()."""
    clients = []

    def launch() -> None:
        client = host.make_client()
        client.start()
        clients.append(client)

    thread = threading.Thread(target=launch)
    thread.start()
    thread.join()
    (client,) = clients
    assert client.ping() == ""
    assert not client.exited()
    tell(client)
    sys.stdin.read()


def detached_exit() -> None:
    tell(launch_detached())


def detached_killed() -> None:
    client = launch_detached()
    tell(client)
    sys.stdin.read()


def detached_forgotten() -> None:
    """The client is collected while its host goes on. The plugin is still reaped when it ends."""
    client = launch_detached()
    tell(client)
    pid = client.pid
    del client
    gc.collect()
    assert sys.stdin.read() == ""
    host.wait_until(lambda: not host.exists(pid))


host.main(
    killed,
    thread_gone,
    detached_exit,
    detached_killed,
    detached_forgotten,
)

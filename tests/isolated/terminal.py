"""What a plugin has as its stdin."""

from __future__ import annotations

from host import DEADLINE, main, make_client, pb


def stdin() -> None:
    with make_client() as client:
        _, probe = client.dispense("probe")
        found = probe.Environ(pb.EnvironRequest(), timeout=DEADLINE)
        print(found.stdin_is_tty)


main(stdin)

"""Keeps a plugin running that crashes on request, and shows what happens to it.

commands: NUMBER (adds it), crash, reload, quit
"""

import logging
import sys
from pathlib import Path

from pygo_plugin import ClosedError, PluginFailedError, Restart, Supervisor
from pygo_plugin.supervise import Event, Exited, GaveUp, Healthy, Reloaded, Restarting

from .shared import HANDSHAKE, PLUGINS

PLUGIN = [sys.executable, str(Path(__file__).with_name("plugin.py"))]


def say(text: str) -> None:
    """Print whole lines, although events come on another thread."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show(event: Event) -> None:
    """Say what has happened to the plugin."""
    if isinstance(event, Healthy):
        text = "serves"
    elif isinstance(event, Exited):
        text = f"has ended, status {event.exit_status}"
    elif isinstance(event, Restarting):
        text = f"will be started in {event.delay:.1f} s"
    elif isinstance(event, Reloaded):
        text = "has replaced the one before it"
    elif isinstance(event, GaveUp):
        text = "was the last one: type reload to start it again"
    else:
        return
    say(f"    process {event.number} {text}")


def main() -> None:
    say(str(__doc__))
    # The log has all this, too, and goes to stderr unless it is told otherwise.
    logging.getLogger("pygo_plugin").addHandler(logging.NullHandler())
    with Supervisor(
        PLUGIN,
        handshake_config=HANDSHAKE,
        plugins=PLUGINS,
        allowed_protocols=["netrpc"],
        restart=Restart(max_restarts=3, within=60.0, delay=0.2),
        on_event=show,
    ) as plugin:
        counter = plugin.dispense("counter")
        for line in sys.stdin:
            command = line.strip()
            if command == "quit":
                break
            try:
                if command == "crash":
                    counter.crash(3)
                elif command == "reload":
                    plugin.reload()
                elif command.isdigit():
                    say(f"the sum is {counter.add(int(command), timeout=10)}")
            except ClosedError as error:
                say(f"the call was cut off: {error.__cause__}")
            except PluginFailedError as error:
                say(str(error))


if __name__ == "__main__":
    main()

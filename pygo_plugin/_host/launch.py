"""What of a configuration the core is told in order to launch a plugin, or to join one."""

from __future__ import annotations

import os

from pygo_plugin._host.cmd import variable, variables
from pygo_plugin._host.naming import base_name, program_of
from pygo_plugin.utils import env_to_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pygo_plugin.config import ClientConfig, Cmd

# Variables that a host sets for its own plugins. A host that is a plugin itself must not pass them
# on: an inherited PLUGIN_CLIENT_CERT, for one, makes a Go plugin speak TLS to a host that does not.
NOT_INHERITED = (
    "PLUGIN_CLIENT_CERT",
    "PLUGIN_MULTIPLEX_GRPC",
    "PLUGIN_UNIX_SOCKET_DIR",
    "PLUGIN_UNIX_SOCKET_GROUP",
    "PYGO_PLUGIN_DETACHED",
    "PYGO_PLUGIN_GROUP",
    "PYGO_PLUGIN_LOG",
    "PYGO_PLUGIN_SYNC_STDERR",
    "PYGO_PLUGIN_TEMPLATE",
)


def name_of(config: ClientConfig) -> str:
    """The name of a client with this configuration. See `Client.name`."""
    cmd, reattach = config.cmd(), config.reattach_config()
    if config.name is not None:
        return config.name
    if config.runner is not None:
        return str(config.runner.name)
    if cmd is not None and cmd.valid:
        return base_name(program_of(cmd.args), cmd.dir or config.cwd)
    return "plugin" if reattach is None else reattach.name or reattach.address


def endpoint_to_join(config: ClientConfig) -> tuple[str, str, str, int, int, bool, int] | None:
    """Where the running plugin is, as the core takes it; None if one is launched."""
    reattach = config.reattach_config()
    if reattach is None:
        return None
    version = reattach.protocol_version or config.handshake_config.protocol_version
    return (
        *(reattach.network, reattach.address, reattach.protocol),
        *(version, reattach.pid, reattach.test, reattach.start_time),
    )


def group_name(config: ClientConfig) -> str | None:
    """The prefix of the variable that marks the plugin's group; None without `kill_group`."""
    if not config.kill_group:
        return None
    if config.detach:
        return ""  # no guard: the group is to outlive the host
    from pygo_plugin._host import guard

    return guard.start()


def environment_of(config: ClientConfig, cmd: Cmd, name: str, own: Iterable[str] = ()) -> list[str]:
    """The child's environment: the host's unless skipped, `own`, and what the config has.

    Later entries replace earlier ones.

    Raises: ConfigError, since the user may have put anything into `cmd.env` and `config.env`.
    """
    environment = {} if config.skip_host_env else dict(os.environ)
    for key in NOT_INHERITED:
        environment.pop(key, None)
    environment.update(variable(f"{name}: Cmd.env", entry) for entry in (*own, *cmd.env))
    environment.update(variables(f"{name}: ClientConfig.env", config.env))
    return env_to_list(environment)


def find_program(name: str, directory: str) -> str | None:
    """The path of an executable that would be launched by this name in the directory."""
    from shutil import which

    return which(os.path.join(directory, name) if "/" in name else name)

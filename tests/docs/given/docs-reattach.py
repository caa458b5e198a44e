from surroundings import HANDSHAKE, PLUGINS, write_plugin

from pygo_plugin import Client, ReattachConfig

write_plugin("kv-plugin")
client = stack.enter_context(Client("./kv-plugin", handshake_config=HANDSHAKE, plugins=PLUGINS))


def save(text):
    stack.callback(client.kill)
    assert ReattachConfig.from_json(text).pid == client.pid

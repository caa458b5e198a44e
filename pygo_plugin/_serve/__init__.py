"""The plugin's side, below `pygo_plugin.server`: protocols, stdio, panics, clean-up."""

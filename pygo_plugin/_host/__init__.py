"""The host's side, below `pygo_plugin.client`: its configuration, runners, output, groups."""

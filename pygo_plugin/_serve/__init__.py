"""The plugin's side, below `pygo_plugin.server`: stdio, panics, clean-up, grpcio's servers."""

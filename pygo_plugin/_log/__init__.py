"""Logging: of plugins on their host (host.py), in a plugin (plugin.py), and of gRPC (grpc.py)."""

"""net/rpc in Python: clients, servers, and objects whose methods are called by name."""

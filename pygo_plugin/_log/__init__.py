"""Three ways into and out of `logging`: a plugin's log on the host, a plugin's own, gRPC's."""

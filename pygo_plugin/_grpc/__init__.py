"""gRPC on the C core, with grpcio's interfaces: channels, calls, servers, services, errors."""

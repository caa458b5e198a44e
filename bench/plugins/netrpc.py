"""Our plugin over net/rpc. Neither gRPC nor protobuf is loaded."""

from orders import CallBackArgs, Order

from pygo_plugin import HandshakeConfig, ServeConfig, netrpc, serve


class Test:
    """The methods of Go's rpcpeer.Test that are measured."""

    def __init__(self, broker):
        self.broker = broker

    def echo(self, payload: bytes) -> bytes:
        return payload

    def order(self, order: Order) -> Order:
        return order

    def call_back(self, args: CallBackArgs) -> bytes:
        with self.broker.client(args.id) as client:
            return client.call("Plugin.Echo", args.payload, reply=bytes)


serve(
    ServeConfig(
        handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo"),
        plugins={"test": netrpc.plugin(Test)},
    )
)

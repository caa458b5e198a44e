"""The servicer that the Python plugins here share: Echo, and as little of it as possible.

The one in tests/peers looks into every call for the tests' sake, which costs as much as some of
what is measured here.
"""

import time

import probe_pb2
import probe_pb2_grpc

COOKIE = ("PYGO_TEST_COOKIE", "pygo")


class EchoServicer(probe_pb2_grpc.ProbeServicer):
    def Echo(self, request, context):
        if request.delay_ms:
            time.sleep(request.delay_ms / 1000)
        return probe_pb2.EchoReply(payload=request.payload)

"""The servicer that the Python plugins here share, with as little in it as possible.

The one in tests/peers looks into every call for the tests' sake, which costs as much as some of
what is measured here.
"""

import sys
import threading
import time

import probe_pb2
import probe_pb2_grpc

COOKIE = ("PYGO_TEST_COOKIE", "pygo")
# The same for all plugins that have threads.
WORKERS = int(sys.argv[1]) if len(sys.argv) > 1 else 16


class EchoServicer(probe_pb2_grpc.ProbeServicer):
    def __init__(self):
        self._started = 0
        self._lock = threading.Lock()

    def Echo(self, request, context):
        if request.delay_ms:
            time.sleep(request.delay_ms / 1000)
        return probe_pb2.EchoReply(payload=request.payload)

    def Count(self, request, context):
        payload = bytes(request.size)
        for number in range(request.n):
            yield probe_pb2.CountReply(number=number, payload=payload)

    def Sum(self, request_iterator, context):
        count = 0
        for _ in request_iterator:
            count += 1
        return probe_pb2.SumReply(count=count)

    def Chat(self, request_iterator, context):
        yield from request_iterator

    def Hang(self, request, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        with self._lock:
            self._started += 1
        ended.wait()
        return probe_pb2.HangReply()

    def Print(self, request, context):
        for _ in range(max(request.repeat, 1)):
            for line in request.lines:
                sys.stdout.buffer.write(line.text)
                sys.stdout.buffer.flush()
        return probe_pb2.PrintReply()

    def Cancelled(self, request, context):
        return probe_pb2.CancelledReply(started=self._started)

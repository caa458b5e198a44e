"""Our host."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from io import RawIOBase, TextIOBase

import probe_pb2
import probe_pb2_grpc
from measure import COOKIE, cpu_us, launch_result, measure_calls, parse_arguments, report
from messages import measure_stream
from opened import hold_open, hold_plugins

from pygo_plugin import Client, HandshakeConfig, Plugin

# The lines that the Go host has its plugin write.
LINE = "an ordinary line of the benchmark"
LAST_LINE = "the last line of the benchmark"
FIELDS = {"component": "bench", "request": "0123456789abcdef"}


class ProbePlugin(Plugin):
    def client_class(self):
        return probe_pb2_grpc.ProbeStub


def make_client(
    command: list[str],
    logger: logging.Logger | None = None,
    stdout: Counter | None = None,
    auto_mtls: bool = False,
    multiplex: bool = False,
    template: bool = False,
) -> Client:
    if logger is None:
        logger = logging.getLogger("bench.off")
        logger.disabled = True
    return Client(
        command,
        handshake_config=HandshakeConfig(1, *COOKIE),
        plugins={"probe": ProbePlugin()},
        logger=logger,
        sync_stdout=stdout,
        auto_mtls=auto_mtls,
        broker_multiplex=multiplex,
        template=template,
    )


def make_asked_for(arguments) -> Client:
    return make_client(
        arguments.plugin,
        auto_mtls=arguments.auto_mtls,
        multiplex=arguments.multiplex,
        template=arguments.template,
    )


class EchoServicer(probe_pb2_grpc.ProbeServicer):
    """What the plugin calls back."""

    def Echo(self, request, context):
        return probe_pb2.EchoReply(payload=request.payload)


def calls(arguments) -> dict:
    with make_asked_for(arguments) as client:
        _, stub = client.dispense("probe")
        payload = bytes(arguments.size)

        def call_back():
            with client.broker.serve(EchoServicer()) as service_id:
                stub.CallBack(probe_pb2.CallBackRequest(service_id=service_id, payload=payload))

        if arguments.call_back:
            return measure_calls(call_back, arguments)
        echo = stub.Echo
        request = probe_pb2.EchoRequest(payload=payload, delay_ms=arguments.delay_ms)
        return measure_calls(lambda: echo(request), arguments)


def stream(arguments) -> dict:
    with make_asked_for(arguments) as client:
        _, stub = client.dispense("probe")
        return measure_stream(stub, arguments)


def opened(arguments) -> None:
    with make_client(arguments.plugin) as client:
        _, stub = client.dispense("probe")
        hold_open(stub, arguments.open)


def plugins(arguments) -> None:
    with contextlib.ExitStack() as running:

        def dispense():
            client = running.enter_context(make_client(arguments.plugin))
            return client.dispense("probe")[1]

        hold_plugins(dispense, arguments.plugins)


def launches(arguments) -> dict:
    replies, kills = [], []
    if arguments.template:
        kept = make_asked_for(arguments)  # which keeps the template
        kept.start()
    for _ in range(arguments.launch):
        client = make_asked_for(arguments)
        begin = time.perf_counter()
        _, stub = client.dispense("probe")
        stub.Echo(probe_pb2.EchoRequest())
        replies.append(time.perf_counter() - begin)
        time.sleep(arguments.idle_ms / 1000)
        begin = time.perf_counter()
        client.kill()
        kills.append(time.perf_counter() - begin)
    if arguments.template:
        kept.kill()
    return launch_result(replies, kills)


class Counter(RawIOBase):
    """Takes what the plugin prints, and knows when all of it is there."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self.done = threading.Event()

    def write(self, data) -> int:
        self._left -= len(data)
        if self._left <= 0:
            self.done.set()
        return len(data)


def output(arguments) -> dict:
    size, piece = arguments.stdio << 20, 64 << 10
    counter = Counter(size)
    line = probe_pb2.Line(channel=probe_pb2.Line.STDOUT, text=b"x" * piece)
    with make_client(arguments.plugin, stdout=counter) as client:
        _, stub = client.dispense("probe")
        cpu, begin = cpu_us(), time.perf_counter()
        stub.Print(probe_pb2.PrintRequest(lines=[line], repeat=size // piece))
        if not counter.done.wait(60):
            raise TimeoutError(f"not all of {arguments.stdio} MiB of output arrived")
        elapsed, cpu = time.perf_counter() - begin, cpu_us() - cpu
    return {"mb_per_second": size / 1e6 / elapsed, "host_cpu_us_per_mb": cpu / (size / 1e6)}


class Sink(TextIOBase):
    """Takes the formatted log, and knows when the last line is there."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def write(self, text: str) -> int:
        if LAST_LINE in text:
            self.done.set()
        return len(text)


class FullFormatter(logging.Formatter):
    """Time, level, name, message and fields: what hclog writes, and thus the Go host."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(levelname)s] %(name)s: %(message)s:")

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join([f" {key}={value}" for key, value in record.hclog.items()])
        return super().format(record) + fields


class RecordsOnly(logging.Handler):
    """Formats nothing, which leaves the cost of getting a line to a handler."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def handle(self, record: logging.LogRecord) -> bool:
        if record.msg == LAST_LINE:
            self._sink.done.set()
        return True


def make_handler(style: str, sink: Sink) -> logging.Handler:
    if style == "records":
        return RecordsOnly(sink)
    handler = logging.StreamHandler(sink)
    handler.setFormatter(
        FullFormatter() if style == "full" else logging.Formatter(logging.BASIC_FORMAT)
    )
    return handler


def log_lines(arguments) -> dict:
    sink = Sink()
    logger = logging.getLogger("bench")
    logger.setLevel(5)  # TRACE
    logger.propagate = False
    logger.addHandler(make_handler(arguments.log_style, sink))

    def entry(text: str) -> probe_pb2.Line:
        return probe_pb2.Line(
            channel=probe_pb2.Line.LOG, text=text.encode(), level="info", fields=FIELDS
        )

    lines = arguments.loglines
    with make_client(arguments.plugin, logger) as client:
        _, stub = client.dispense("probe")
        cpu, begin = cpu_us(), time.perf_counter()
        stub.Print(probe_pb2.PrintRequest(lines=[entry(LINE)], repeat=max(lines - 1, 1)))
        stub.Print(probe_pb2.PrintRequest(lines=[entry(LAST_LINE)]))
        if not sink.done.wait(60):
            raise TimeoutError(f"the last of {lines} lines did not arrive")
        elapsed, cpu = time.perf_counter() - begin, cpu_us() - cpu
    return {
        "lines": lines,
        "seconds": elapsed,
        "per_second": lines / elapsed,
        "host_cpu_us_per_line": cpu / lines,
    }


def main() -> None:
    arguments = parse_arguments()
    if arguments.open:
        opened(arguments)
        return
    if arguments.plugins:
        plugins(arguments)
        return
    report(
        calls=calls(arguments) if arguments.calls else None,
        stream=stream(arguments) if arguments.messages else None,
        launch=launches(arguments) if arguments.launch else None,
        log=log_lines(arguments) if arguments.loglines else None,
        stdio=output(arguments) if arguments.stdio else None,
    )


if __name__ == "__main__":
    main()

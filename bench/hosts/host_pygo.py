"""Our host."""

from __future__ import annotations

import logging
import threading
import time
from io import TextIOBase

import probe_pb2
import probe_pb2_grpc
from measure import COOKIE, cpu_us, launch_result, measure_calls, parse_arguments, report

from pygo_plugin import Client, HandshakeConfig, Plugin

# The lines that the Go host has its plugin write.
LINE = "an ordinary line of the benchmark"
LAST_LINE = "the last line of the benchmark"
FIELDS = {"component": "bench", "request": "0123456789abcdef"}


class ProbePlugin(Plugin):
    def client_class(self):
        return probe_pb2_grpc.ProbeStub


def make_client(command: list[str], logger: logging.Logger | None = None) -> Client:
    if logger is None:
        logger = logging.getLogger("bench.off")
        logger.disabled = True
    return Client(
        command,
        handshake_config=HandshakeConfig(1, *COOKIE),
        plugins={"probe": ProbePlugin()},
        logger=logger,
    )


def calls(arguments) -> dict:
    with make_client(arguments.plugin) as client:
        _, stub = client.dispense("probe")
        echo = stub.Echo
        request = probe_pb2.EchoRequest(payload=bytes(arguments.size), delay_ms=arguments.delay_ms)
        return measure_calls(lambda: echo(request), arguments)


def launches(arguments) -> dict:
    replies, kills = [], []
    for _ in range(arguments.launch):
        client = make_client(arguments.plugin)
        begin = time.perf_counter()
        _, stub = client.dispense("probe")
        stub.Echo(probe_pb2.EchoRequest())
        replies.append(time.perf_counter() - begin)
        time.sleep(arguments.idle_ms / 1000)
        begin = time.perf_counter()
        client.kill()
        kills.append(time.perf_counter() - begin)
    return launch_result(replies, kills)


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
    report(
        calls=calls(arguments) if arguments.calls else None,
        launch=launches(arguments) if arguments.launch else None,
        log=log_lines(arguments) if arguments.loglines else None,
    )


if __name__ == "__main__":
    main()

"""The KV and Probe services, for any server that speaks grpcio's interfaces.

Both the plain grpcio plugin and our own serve exactly these classes, so they
use nothing but the standard methods of `grpc.ServicerContext`. The generated
modules come from `examples/kv/kv.proto` and `tests/proto/probe.proto`, and are
found on PYTHONPATH. See probe.proto for what each call does.
"""

import logging
import os
import sys
import threading
import time

import grpc
import kv_pb2
import kv_pb2_grpc
import probe_pb2
import probe_pb2_grpc

WANT_INITIAL = "want-initial-"
WANT_TRAILING = "want-trailing-"

TRACE = 5
LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class KVServicer(kv_pb2_grpc.KVServicer):
    """Keeps its values in memory."""

    def __init__(self):
        self._values = {}

    def Get(self, request, context):
        value = self._values.get(request.key)
        if value is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no such key: {request.key}")
        return kv_pb2.GetResponse(value=value)

    def Put(self, request, context):
        self._values[request.key] = request.value
        return kv_pb2.PutResponse()


class ProbeServicer(probe_pb2_grpc.ProbeServicer):
    """Looks into the process and makes it misbehave.

    `log(level, message, fields)` takes the entries of Print, with the level as a
    number of the logging module. The default is a logger named "peer", with
    the fields in the attribute `hclog` of the record.
    """

    def __init__(self, version=0, log=None):
        self._version = version
        self._log = log or _log_record
        self._lock = threading.Lock()
        self._hung = 0
        self._cancelled = 0

    def Echo(self, request, context):
        remaining = context.time_remaining()
        received = _answer_metadata(context)
        _pause(request.delay_ms, context)
        payload = bytes(request.reply_size) if request.reply_size > 0 else request.payload
        return probe_pb2.EchoReply(
            payload=payload,
            metadata=received,
            pid=os.getpid(),
            time_remaining_ms=_milliseconds(remaining),
        )

    def Fail(self, request, context):
        _answer_metadata(context)
        if request.code:
            context.abort(_CODES[request.code], request.details)
        return probe_pb2.FailReply()

    def Count(self, request, context):
        _answer_metadata(context)
        payload = bytes(request.size)
        for number in range(request.n):
            _pause(request.delay_ms, context)
            yield probe_pb2.CountReply(number=number, payload=payload)
        if request.fail_code:
            context.abort(_CODES[request.fail_code], request.fail_details)

    def Sum(self, request_iterator, context):
        _answer_metadata(context)
        total = count = 0
        for request in request_iterator:
            total += request.value
            count += 1
        return probe_pb2.SumReply(total=total, count=count)

    def Chat(self, request_iterator, context):
        _answer_metadata(context)
        yield from request_iterator

    def Hang(self, request, context):
        _answer_metadata(context)
        ended = threading.Event()
        registered = context.add_callback(ended.set)
        with self._lock:
            self._hung += 1
        if registered:
            ended.wait()
        with self._lock:
            self._cancelled += 1
        return probe_pb2.HangReply()

    def Cancelled(self, request, context):
        _answer_metadata(context)
        with self._lock:
            return probe_pb2.CancelledReply(started=self._hung, cancelled=self._cancelled)

    def Exit(self, request, context):
        if request.signal:
            os.kill(os.getpid(), request.signal)
            time.sleep(60)  # The signal is on its way.
        os._exit(request.status)

    def Print(self, request, context):
        _answer_metadata(context)
        for _ in range(max(request.repeat, 1)):
            for line in request.lines:
                self._print(line)
        return probe_pb2.PrintReply()

    def Environ(self, request, context):
        _answer_metadata(context)
        blocked, ignored, caught = _signal_masks()
        return probe_pb2.EnvironReply(
            environ=_environ(),
            argv=_command_line(),
            cwd=os.getcwdb(),
            fds=_open_fds(),
            pid=os.getpid(),
            ppid=os.getppid(),
            pgid=os.getpgrp(),
            stdin_is_tty=os.isatty(0),
            signals_blocked=blocked,
            signals_ignored=ignored,
            signals_caught=caught,
            version=self._version,
        )

    def _print(self, line):
        if line.channel == probe_pb2.Line.LOG:
            level = LEVELS.get(line.level, logging.INFO)
            self._log(level, line.text.decode(errors="replace"), dict(line.fields))
            return
        to_stderr = line.channel == probe_pb2.Line.STDERR
        if line.raw:
            _write_all(2 if to_stderr else 1, line.text)
        else:
            stream = sys.stderr if to_stderr else sys.stdout
            stream.buffer.write(line.text)
            stream.flush()


def _log_record(level, message, fields):
    logging.getLogger("peer").log(level, "%s", message, extra={"hclog": fields})


def _answer_metadata(context):
    """Set the metadata that the request asks for, and return what it carries."""
    received, initial, trailing = [], [], []
    for key, value in context.invocation_metadata():
        received.append(
            probe_pb2.Metadatum(key=key, value=value.encode() if isinstance(value, str) else value)
        )
        if key.startswith(WANT_INITIAL):
            initial.append((key[len(WANT_INITIAL) :], value))
        if key.startswith(WANT_TRAILING):
            trailing.append((key[len(WANT_TRAILING) :], value))
    if initial:
        context.send_initial_metadata(initial)
    if trailing:
        context.set_trailing_metadata(trailing)
    return received


def _pause(milliseconds, context):
    """Wait; the end of the call cuts the wait short."""
    if milliseconds > 0:
        ended = threading.Event()
        if context.add_callback(ended.set):
            ended.wait(milliseconds / 1000)


def _milliseconds(seconds):
    """Convert what time_remaining() gives: None, or decades, when there is no deadline."""
    if seconds is None or seconds > 365 * 24 * 3600:
        return -1
    return int(seconds * 1000)


def _write_all(fd, data):
    while data:
        data = data[os.write(fd, data) :]


def _environ():
    return {key.decode(errors="replace"): value for key, value in os.environb.items()}


def _command_line():
    with open("/proc/self/cmdline", "rb") as command_line:
        return command_line.read().split(b"\0")[:-1]


def _open_fds():
    """Map open descriptors to what /proc says they are, but for the one used to list them."""
    fds = {}
    own = f"/proc/{os.getpid()}/fd"
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target != own:
            fds[int(name)] = os.fsencode(target)
    return fds


def _signal_masks():
    """Return the blocked, ignored and caught signals of the process's main thread."""
    masks = {}
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key in ("SigBlk", "SigIgn", "SigCgt"):
                masks[key] = int(value, 16)
    return masks["SigBlk"], masks["SigIgn"], masks["SigCgt"]

"""The plugin's side of logging: records become hclog JSON lines on the original stderr.

The host reads them (see _log/host.py; go-plugin hosts likewise) and logs them with their level,
their logger's name as `@module`, and what `extra=` holds as structured fields. A traceback is part
of the message, so that it arrives as one record.

Imported late: `logging` costs more than all the rest of a plugin's start, so that a plugin that
does not use it shall print its handshake line first.
"""

from __future__ import annotations

import _thread
import logging
import os
import sys
import threading

from pygo_plugin._base.core import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["HclogHandler", "install"]

TRACE = 5

# What every record has; anything else came with `extra=`. The last two appear while formatting,
# `taskName` since Python 3.12.
STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "taskName",
    "message",
    "asctime",
}


DEFAULT_THREAD_HOOK = getattr(_thread, "_excepthook", None)


def install(descriptor: int, logger: logging.Logger | None = None) -> None:
    """Log to `descriptor`, a duplicate of stderr, what `logger` and those below it get.

    Without one it is the root logger, unless the author has configured that: it has a handler.
    The logger's level is lowered from the default to TRACE: the host decides what it wants to see,
    and it cannot ask for what was never sent. A level that the author has set stays.
    """
    if logging.getLevelName(TRACE) == f"Level {TRACE}":
        logging.addLevelName(TRACE, "TRACE")
    handler = HclogHandler(descriptor)
    _report_exceptions(handler)
    if logger is None:
        logger = logging.getLogger()
        if logger.handlers:
            return
    for before in [one for one in logger.handlers if isinstance(one, HclogHandler)]:
        logger.removeHandler(before)  # of an earlier server in this process
    logger.addHandler(handler)
    if _has_default_level(logger):
        logger.setLevel(TRACE)


def _has_default_level(logger: logging.Logger) -> bool:
    """Whether nobody has set a level, of this logger or of one above it."""
    decides = logger
    while decides.level == logging.NOTSET and decides.parent is not None:
        decides = decides.parent
    return decides.parent is None and decides.level == logging.WARNING


def _report_exceptions(handler: logging.Handler) -> None:
    """Log exceptions that end only a thread or less; for the others see _serve/panic.py.

    They are by the hooks that print them by default, unless the author has set others.
    """

    def report(message: str, error: BaseException | None) -> None:
        if error is not None:
            exc_info = (type(error), error, error.__traceback__)
            handler.handle(logging.LogRecord("root", logging.ERROR, "", 0, message, (), exc_info))

    def in_thread(args: Any) -> None:
        if args.exc_type is not SystemExit:
            name = "a thread" if args.thread is None else args.thread.name
            report(f"uncaught exception in {name}", args.exc_value)

    def unraisable(args: Any) -> None:
        report(f"{args.err_msg or 'exception ignored in'}: {args.object!r}", args.exc_value)

    if threading.excepthook is DEFAULT_THREAD_HOOK:
        threading.excepthook = in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = unraisable


class HclogHandler(logging.Handler):
    """Writes each record as one line, with one write(2) unless the pipe takes less."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._tracebacks = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            module = None if record.name == "root" else _text(record.name)
            level, message = _level(record.levelno), _text(self._message(record))
            line = _core.hclog_line(level, message, module, record.created, _extra(record))
            rest = memoryview(line)
            while rest:  # handle() holds the handler's lock: lines do not mix
                rest = rest[os.write(self._descriptor, rest) :]
        except BrokenPipeError:
            pass  # nobody reads the log: the host has gone before its plugin
        except Exception:
            self.handleError(record)

    def _message(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = self._tracebacks.formatException(record.exc_info)
        if record.exc_text:
            message = f"{message}\n{record.exc_text}"
        if record.stack_info:
            message = f"{message}\n{record.stack_info}"
        return message


def _level(level: int) -> int:
    for known in (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        if level >= known:
            return known
    return TRACE


def _extra(record: logging.LogRecord) -> dict[str, Any] | None:
    """What `extra=` added. The entries of a dict `hclog` count as if given one by one.

    That is how the records of a plugin look on its host, which may be a plugin itself.
    """
    extra = {key: value for key, value in record.__dict__.items() if key not in STANDARD}
    fields = extra.pop("hclog", None)
    if isinstance(fields, dict):
        extra = {**fields, **extra}
    elif fields is not None:
        extra["hclog"] = fields
    # Keys that start with "@" are hclog's own.
    return {_text(str(key)).lstrip("@"): _plain(value) for key, value in extra.items()} or None


def _text(text: str) -> str:
    """The text as UTF-8 can hold it: names of files may have lone surrogates."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: Any, depth: int = 8) -> Any:
    """The value as JSON can hold it; anything else as its str()."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(value)  # nan and infinities are not JSON
    if depth and isinstance(value, dict):
        return {_text(str(key)): _plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value]
    return _text(str(value))

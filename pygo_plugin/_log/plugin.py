"""The plugin's side of logging: records become hclog JSON lines on the original stderr.

A host reads them (see _log/host.py) and logs them with their level, with the logger's name as
`@module`, and with the values of `extra=` as structured fields. A traceback is part of the message,
so that it arrives as one record.

Imported after the handshake line was printed, unless the plugin itself uses `logging`, because that
import takes longer than the rest of a plugin's start.
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

# The attributes that every record has; others come from `extra=`. Formatting adds `message` and
# `asctime`, and `taskName` is new in Python 3.12.
STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "taskName",
    "message",
    "asctime",
}


DEFAULT_THREAD_HOOK = getattr(_thread, "_excepthook", None)


def install(descriptor: int, logger: logging.Logger | None = None) -> None:
    """Write the records of `logger` and its children to `descriptor`, a duplicate of stderr.

    The default is the root logger, unless it has a handler already, which the author has added.
    The logger's level is lowered from the default to TRACE, because the host chooses what to show
    and must get everything. A level that the author has set is kept.
    """
    if logging.getLevelName(TRACE) == f"Level {TRACE}":
        logging.addLevelName(TRACE, "TRACE")
    handler = HclogHandler(descriptor)
    _report_exceptions(handler)
    if logger is None:
        logger = logging.getLogger()
        if logger.handlers:
            return
    for earlier in [handler for handler in logger.handlers if isinstance(handler, HclogHandler)]:
        logger.removeHandler(earlier)  # of another server in this process before
    logger.addHandler(handler)
    if _has_default_level(logger):
        logger.setLevel(TRACE)


def _has_default_level(logger: logging.Logger) -> bool:
    """Whether the level was set neither for this logger nor for one of its ancestors."""
    decides = logger
    while decides.level == logging.NOTSET and decides.parent is not None:
        decides = decides.parent
    return decides.parent is None and decides.level == logging.WARNING


def _report_exceptions(handler: logging.Handler) -> None:
    """Log exceptions that do not end the process; for the others see _serve/panic.py.

    The hooks of `threading` and `sys` that print such exceptions are replaced, unless the author
    has set other hooks.
    """

    def report(message: str, error: BaseException | None) -> None:
        if error is not None:
            exc_info = (type(error), error, error.__traceback__)
            handler.handle(logging.LogRecord("root", logging.ERROR, "", 0, message, (), exc_info))

    def report_in_thread(args: Any) -> None:
        if args.exc_type is not SystemExit:
            name = "a thread" if args.thread is None else args.thread.name
            report(f"uncaught exception in {name}", args.exc_value)

    def report_unraisable(args: Any) -> None:
        report(f"{args.err_msg or 'exception ignored in'}: {args.object!r}", args.exc_value)

    if threading.excepthook is DEFAULT_THREAD_HOOK:
        threading.excepthook = report_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = report_unraisable


class HclogHandler(logging.Handler):
    """Writes each record as one line, with one write(2) unless the pipe takes only a part."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._tracebacks = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            module = None if record.name == "root" else _valid_text(record.name)
            level, message = _hclog_level(record.levelno), _valid_text(self._message(record))
            line = _core.hclog_line(level, message, module, record.created, _extra(record))
            rest = memoryview(line)
            while rest:  # handle() holds the handler's lock, so that lines are not mixed
                rest = rest[os.write(self._descriptor, rest) :]
        except BrokenPipeError:
            pass  # the host, which reads the log, has ended
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


def _hclog_level(level: int) -> int:
    for known in (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        if level >= known:
            return known
    return TRACE


def _extra(record: logging.LogRecord) -> dict[str, Any] | None:
    """The values of `extra=`. The entries of a dict `hclog` count as if given one by one.

    The records of a plugin have such a dict on their host, which may be a plugin itself.
    """
    extra = {key: value for key, value in record.__dict__.items() if key not in STANDARD}
    fields = extra.pop("hclog", None)
    if isinstance(fields, dict):
        extra = {**fields, **extra}
    elif fields is not None:
        extra["hclog"] = fields
    # Keys that start with "@" are reserved by hclog.
    return {
        _valid_text(str(key)).lstrip("@"): _to_json(value) for key, value in extra.items()
    } or None


def _valid_text(text: str) -> str:
    """The text with lone surrogates escaped, as names of files may have them: UTF-8 has none."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _to_json(value: Any, depth: int = 8) -> Any:
    """The value with everything that JSON cannot hold replaced by its str()."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _valid_text(value)
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(value)  # nan and infinities are not JSON
    if depth and isinstance(value, dict):
        return {_valid_text(str(key)): _to_json(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple)):
        return [_to_json(item, depth - 1) for item in value]
    return _valid_text(str(value))

"""The host's side of logging: a plugin's stderr becomes `logging` records.

Records go to the child, named after the base name of the plugin's executable, of the logger that
the client was given, or of "pygo_plugin.plugin" if it was given none. So handlers, levels and
`propagate` can be set for one plugin and for all.

While nobody has configured a handler, `logging` itself writes warnings and worse to stderr, as it
does for any library. Then, and only then, messages start with the plugin's path, because a bare
script has no other way to tell who speaks.

Speed matters here, since a chatty plugin can write faster than `logging` makes records. Records
are therefore copies of a template per level instead of calls of LogRecord's constructor, which
spends most of its time on looking up the calling thread and process.
"""

from __future__ import annotations

import logging
import time
from _thread import get_ident

from pygo_plugin._base.core import _core
from pygo_plugin._host.output import byte_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pygo_plugin._core import _LogRecord as CoreRecord
    from pygo_plugin.config import Writer

__all__ = ["LogMirror", "TRACE", "plugin_logger"]

TRACE = 5
LEVELS = (TRACE, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
NOTHING = 1000  # above every level

if logging.getLevelName(TRACE) == f"Level {TRACE}":  # not if the application has a name for it
    logging.addLevelName(TRACE, "TRACE")


def plugin_logger(parent: logging.Logger | None, name: str) -> logging.Logger:
    """The logger of the plugin whose executable has the base name `name`."""
    if parent is None:
        parent = logging.getLogger("pygo_plugin.plugin")
    child = parent.getChild(name)
    ancestor: logging.Logger | None = child
    while ancestor is not None and ancestor is not parent:
        ancestor = ancestor.parent
    # A Logger made by its constructor is unknown to its manager, and so are its children.
    return parent if ancestor is None else child


class LogMirror:
    """Takes batches of one plugin's stderr from the core, in order, on the core's thread.

    A call returns the lowest level that is wanted from now on, so that the core need not parse
    what nobody wants to see. Changed levels, and `logging.disable`, count from the next batch on.
    """

    def __init__(
        self,
        logger: logging.Logger,
        path: str,
        pid: Callable[[], int],
        stderr: Writer | int | None = None,
    ) -> None:
        """`pid` may answer -1 as long as the process id is not known."""
        self._logger = logger
        self._path = path
        self._find_pid = pid
        self._pid = -1
        # Not made in the core's thread: LogRecord would register that one with `threading`.
        record = logging.LogRecord(logger.name, 0, path, 0, "", (), None)
        # When `logging` was imported, which a private variable of it holds.
        self._epoch = record.created - record.relativeCreated / 1000.0
        self._template = {**record.__dict__, "threadName": "pygo_plugin", "plugin_path": path}
        self._templates: dict[int, dict[str, Any]] = {}  # by level
        self._copy = None if stderr is None else byte_writer(stderr)

    def lowest_level(self) -> int:
        """The lowest level that the logger lets through."""
        for level in LEVELS:
            if self._logger.isEnabledFor(level):
                return level
        return NOTHING

    def __call__(self, raw: bytes | None, records: list[CoreRecord]) -> int:
        if raw and self._copy is not None:
            try:
                self._copy(raw)
            except BaseException as error:  # it would end the core's thread otherwise
                self._copy = None  # one report is enough for a closed file
                _core.unraisable(error, self)
        lowest = self.lowest_level()
        if records and lowest != NOTHING:
            try:
                self._log(records, lowest)
            except BaseException as error:
                _core.unraisable(error, self)
        return lowest

    def _log(self, records: list[CoreRecord], lowest: int) -> None:
        if self._pid < 0:
            self._pid = self._find_pid()
            self._template.update(thread=get_ident(), plugin_pid=self._pid)
            self._templates.clear()
        logger = self._logger
        handle = logger.handle
        factory: Any = logging.getLogRecordFactory()
        plain = factory is logging.LogRecord
        prefix = "" if logger.hasHandlers() else f"{self._path}: "
        now = time.time()
        epoch = self._epoch
        new = object.__new__
        for level, message, module, created, fields in records:
            if level < lowest:
                continue
            try:
                template = self._templates.get(level)
                if template is None:
                    template = {
                        **self._template,
                        "levelno": level,
                        "levelname": logging.getLevelName(level),
                    }
                    self._templates[level] = template
                if created <= 0.0:
                    created = now
                # Half a microsecond makes up for 0.123 being 0.12299999 in binary.
                msecs = int(created % 1.0 * 1000.0 + 0.0005)
                varying = {
                    "msg": prefix + message,
                    "created": created,
                    "msecs": msecs + 0.0 if msecs < 1000 else 999.0,
                    "relativeCreated": (created - epoch) * 1000.0,
                    "hclog": {} if fields is None else fields,
                    "hclog_module": module,
                }
                if plain:
                    record = new(logging.LogRecord)
                    record.__dict__ = {**template, **varying}
                else:  # the application's own records
                    record = factory(
                        logger.name, level, self._path, 0, varying["msg"], (), None, None, None
                    )
                    record.__dict__.update(template)
                    record.__dict__.update(varying)
                handle(record)
            except BaseException as error:  # the user's filters and handlers run in there
                _core.unraisable(error, self)

"""The host's side of logging: a plugin's stderr becomes `logging` records.

The logger of a plugin has the name of its client. It is a child of the logger that the client was
given, by default of "pygo_plugin.plugin". So handlers, levels and `propagate` can be set for one
plugin and for all of them.

Where no handler is configured, `logging` itself writes warnings and errors to stderr. Only then do
messages start with the plugin's path, or with the option `name` of its client, so that a simple
script shows which plugin has logged them.

Plugins can write faster than `logging` makes records. Therefore records are copies of a template
for each level. LogRecord's constructor is not called, which spends most of its time on looking up
the calling thread and process.
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

if logging.getLevelName(TRACE) == f"Level {TRACE}":  # the application has not named this level
    logging.addLevelName(TRACE, "TRACE")


def plugin_logger(parent: logging.Logger | None, name: str) -> logging.Logger:
    """The logger of the plugin that is called `name`."""
    if parent is None:
        parent = logging.getLogger("pygo_plugin.plugin")
    child = parent.getChild(name)
    ancestor: logging.Logger | None = child
    while ancestor is not None and ancestor is not parent:
        ancestor = ancestor.parent
    # A Logger that was made by its constructor is unknown to its manager. Then the child is a child
    # of another logger.
    return parent if ancestor is None else child


class LogMirror:
    """Gets one plugin's stderr from the core in batches, in order, on the core's thread.

    A call returns the lowest level that the logger lets through now, so that the core need not
    parse lines below it. Changed levels, and `logging.disable`, take effect with the next batch.
    """

    def __init__(
        self,
        logger: logging.Logger,
        path: str,
        pid: Callable[[], int],
        stderr: Writer | int | None = None,
        label: str = "",
    ) -> None:
        """`path` is what is run: an executable, a script or a module.

        `pid` may return -1 as long as the process id is unknown. Messages start with `label`, by
        default with `path`, if no handler is configured.
        """
        self._logger = logger
        self._path = path
        self._label = label or path
        self._find_pid = pid
        self._pid = -1
        # Made here and not on the core's thread, which LogRecord would register with `threading`.
        record = logging.LogRecord(logger.name, 0, path, 0, "", (), None)
        # The time when `logging` was imported, which it keeps in a private variable.
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
            except BaseException as error:  # must not end the core's thread
                self._copy = None  # so that a closed file is reported once
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
        prefix = "" if logger.hasHandlers() else f"{self._label}: "
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
                # Half a microsecond is added because 0.123 is 0.12299999 in binary.
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
                else:  # the application has its own class of records
                    record = factory(
                        logger.name, level, self._path, 0, varying["msg"], (), None, None, None
                    )
                    record.__dict__.update(template)
                    record.__dict__.update(varying)
                handle(record)
            except BaseException as error:  # of the user's filters and handlers
                _core.unraisable(error, self)

"""What plugins log on workers, brought to the client by Dask's events."""

from __future__ import annotations

import logging
from typing import Any

LOGGER = "pygo_plugin"
SIMPLE = (str, int, float, bool, type(None))


class Sender(logging.Handler):
    """On a worker: sends the records of plugins to those who have subscribed to the topic."""

    def __init__(self, topic: str, worker: Any, level: int) -> None:
        """`level` is the lowest that the client wants."""
        super().__init__(level)
        self._topic = topic
        self._worker = worker
        self._before = logging.NOTSET

    def start(self) -> None:
        """Begin to send records."""
        logger = logging.getLogger(LOGGER)
        self._before = logger.level
        if not logger.isEnabledFor(self.level):
            logger.setLevel(self.level)
        logger.addHandler(self)

    def stop(self) -> None:
        """Send no more."""
        logger = logging.getLogger(LOGGER)
        logger.removeHandler(self)
        logger.setLevel(self._before)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, if the worker is still connected."""
        fields: dict[str, Any] = {
            key: value for key, value in vars(record).items() if isinstance(value, SIMPLE)
        }
        hclog = getattr(record, "hclog", None)
        if isinstance(hclog, dict):
            fields["hclog"] = {key: str(value) for key, value in hclog.items()}
        fields.update(msg=record.getMessage(), worker=self._worker.address)
        try:
            self._worker.log_event(self._topic, fields)
        except Exception:
            self.handleError(record)


def wanted_level() -> int:
    """The lowest level of plugins' records that this process wants."""
    return logging.getLogger(f"{LOGGER}.plugin").getEffectiveLevel()


class Receiver:
    """On the client: hands the records of workers to the loggers of the same names."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def receive(self, event: Any) -> None:
        """Handle one event of the topic: a pair of its time and the fields of a record."""
        _, fields = event
        if isinstance(fields, dict) and "msg" in fields and "name" in fields:
            record = logging.makeLogRecord(fields)
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)

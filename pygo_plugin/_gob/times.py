"""Go's time.Time: a datetime that keeps nanoseconds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import tzinfo
    from typing import Any, SupportsIndex

    from typing_extensions import Self

__all__ = ["ZERO_TIME", "Time"]


class Time(datetime):
    """A `datetime` with nanoseconds, as which times of Go are decoded.

        Time(2026, 12, 1, 12, 30, 0, 5, timezone.utc, nanosecond=250)

    `nanosecond`, from 0 to 999, is what comes after `microsecond`. Comparison, the hash, `replace`,
    `astimezone`, `isoformat`, adding a timedelta and pickling respect it. A difference of two times
    is a timedelta, which has no nanoseconds.
    """

    __slots__ = ("_nanosecond",)
    _nanosecond: int

    def __new__(
        cls,
        year: SupportsIndex,
        month: SupportsIndex,
        day: SupportsIndex,
        hour: SupportsIndex = 0,
        minute: SupportsIndex = 0,
        second: SupportsIndex = 0,
        microsecond: SupportsIndex = 0,
        tzinfo: tzinfo | None = None,
        *,
        fold: int = 0,
        nanosecond: int = 0,
    ) -> Self:
        if not 0 <= nanosecond <= 999:
            raise ValueError(f"nanosecond must be from 0 to 999, not {nanosecond}")
        made = super().__new__(
            cls, year, month, day, hour, minute, second, microsecond, tzinfo, fold=fold
        )
        if nanosecond:
            made._nanosecond = nanosecond
        return made

    @classmethod
    def of(cls, value: datetime, nanosecond: int = 0) -> Time:
        """The same time as another datetime's."""
        return cls(
            *(value.year, value.month, value.day, value.hour, value.minute, value.second),
            value.microsecond,
            value.tzinfo,
            fold=value.fold,
            nanosecond=nanosecond,
        )

    @property
    def nanosecond(self) -> int:
        """The nanoseconds beyond the microsecond, from 0 to 999."""
        try:
            return self._nanosecond
        except AttributeError:  # not set: 0
            return 0

    def _with(self, value: datetime) -> Time:
        return self.of(value, self.nanosecond)

    def replace(self, *args: Any, nanosecond: int | None = None, **changes: Any) -> Time:
        plain = datetime.replace(_plain(self), *args, **changes)
        return self.of(plain, self.nanosecond if nanosecond is None else nanosecond)

    def astimezone(self, tz: tzinfo | None = None) -> Time:
        return self._with(_plain(self).astimezone(tz))

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        """As that of datetime; with nine digits if there are nanoseconds, or for "nanoseconds"."""
        if timespec != "nanoseconds" and not (timespec == "auto" and self.nanosecond):
            return super().isoformat(sep, timespec)
        text = super().isoformat(sep, "microseconds")
        end = text.index(".", len(sep)) + 7
        return f"{text[:end]}{self.nanosecond:03}{text[end:]}"

    def __str__(self) -> str:
        return self.isoformat(" ")

    def __repr__(self) -> str:
        text = repr(_plain(self)).replace("datetime.datetime(", "Time(", 1)
        return f"{text[:-1]}, nanosecond={self.nanosecond})" if self.nanosecond else text

    def __add__(self, other: timedelta) -> Time:
        if not isinstance(other, timedelta):
            return NotImplemented
        return self._with(_plain(self) + other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, timedelta):
            return self._with(_plain(self) - other)
        if isinstance(other, datetime):
            return _plain(self) - _plain(other)
        return NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return _plain(other) - _plain(self) if isinstance(other, datetime) else NotImplemented

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, datetime):
            return NotImplemented
        return _plain(self) == _plain(other) and self.nanosecond == _nanosecond(other)

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def _compare(self, other: Any) -> int:
        """Less than, equal to or greater than 0, as this time is to the other."""
        mine, others = _plain(self), _plain(other)
        if mine == others:
            return self.nanosecond - _nanosecond(other)
        return -1 if mine < others else 1

    def __lt__(self, other: Any) -> bool:
        return self._compare(other) < 0 if isinstance(other, datetime) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return self._compare(other) <= 0 if isinstance(other, datetime) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return self._compare(other) > 0 if isinstance(other, datetime) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return self._compare(other) >= 0 if isinstance(other, datetime) else NotImplemented

    def __hash__(self) -> int:
        return hash((_plain(self), self.nanosecond)) if self.nanosecond else hash(_plain(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _restored, (_plain(self), self.nanosecond)


def _plain(value: datetime) -> datetime:
    """The same time as an object of the class datetime itself."""
    if type(value) is datetime:
        return value
    return datetime(
        *(value.year, value.month, value.day, value.hour, value.minute, value.second),
        value.microsecond,
        value.tzinfo,
        fold=value.fold,
    )


def _nanosecond(value: datetime) -> int:
    return value.nanosecond if isinstance(value, Time) else 0


def _restored(value: datetime, nanosecond: int) -> Time:
    return Time.of(value, nanosecond)


ZERO_TIME = Time(1, 1, 1, tzinfo=timezone.utc)
"""Go's zero time: the start of year 1, in UTC."""

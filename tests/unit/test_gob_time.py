"""Times of Go: datetimes with nanoseconds."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pygo_plugin import gob
from pygo_plugin.errors import GobError

UTC = timezone.utc
WHEN = gob.Time(2026, 12, 1, 12, 30, 15, 5, UTC, nanosecond=250)


def back(value: Any) -> Any:
    return gob.loads(gob.dumps(value, datetime), datetime)


@pytest.mark.parametrize(
    "value",
    [
        WHEN,
        gob.ZERO_TIME,
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 1, UTC),
        datetime(2000, 2, 29, tzinfo=timezone(timedelta(hours=14))),
        datetime(1900, 3, 1, tzinfo=timezone(-timedelta(hours=12, minutes=30))),
        datetime(2024, 12, 31, 23, tzinfo=timezone(timedelta(minutes=1, seconds=30))),
        datetime(2024, 1, 1, tzinfo=timezone(-timedelta(hours=2, seconds=1))),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Paris")),
    ],
)
def test_times_come_back(value: datetime) -> None:
    found = back(value)
    assert type(found) is gob.Time
    assert found == value
    assert found.utcoffset() == value.utcoffset()
    assert found.nanosecond == getattr(value, "nanosecond", 0)


def test_every_day_of_the_calendar() -> None:
    days = [datetime(1, 1, 1, 1, tzinfo=UTC) + timedelta(days=97 * i) for i in range(37650)]
    days += [datetime(year, month, 1, tzinfo=UTC) for year in (1, 4, 100, 400, 1900, 2000, 9999)
             for month in range(1, 13)]  # fmt: skip
    days += [each - timedelta(microseconds=1) for each in days if each > days[0]]
    assert gob.loads(gob.dumps(days, list[datetime]), list[datetime]) == days


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (datetime(2026, 1, 1), "is in no time zone: give it a tzinfo"),
        (
            datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1))),
            "fractions of seconds in the offset",
        ),
        (
            datetime(2026, 1, 1, tzinfo=timezone(-timedelta(seconds=90))),
            "Go cannot encode a zone whose offset is -90 s",
        ),
        (5, "expected a datetime, found int"),
    ],
)
def test_times_that_go_does_not_have(value: Any, reason: str) -> None:
    with pytest.raises(GobError, match=reason):
        gob.dumps(value, datetime)


def test_a_zone_that_raises() -> None:
    class Broken(tzinfo):
        def utcoffset(self, when: Any) -> Any:
            raise KeyError("zone")

    with pytest.raises(KeyError, match="zone"):
        gob.dumps(datetime(2026, 1, 1, tzinfo=Broken()), datetime)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "these 0 bytes are no time.Time"),
        ("01" + "00" * 13, "these 14 bytes are no time.Time"),
        ("01" + "00" * 15, "these 16 bytes are no time.Time"),
        ("03" + "00" * 14, "these 15 bytes are no time.Time"),
        ("01" + "00" * 8 + "3b9aca00" + "ffff", "these bytes are no time.Time"),
        ("01" + "00" * 12 + "05a0", "these bytes are no time.Time"),  # an offset of 24 hours
        ("01" + "7f" * 8 + "00000000" + "ffff", "cannot hold a time before year 1 or after 9999"),
        ("01" + "80" + "00" * 7 + "00000000" + "ffff", "cannot hold a time before year 1"),
        ("01" + "00" * 12 + "ffc4", "cannot hold a time before year 1"),  # an hour before
    ],
)
def test_bytes_that_are_no_time(data: str, reason: str) -> None:
    class Time:
        def __gob_encode__(self) -> bytes:
            return bytes.fromhex(data)

        @classmethod
        def __gob_decode__(cls, data: bytes) -> None:
            raise NotImplementedError

    with pytest.raises(GobError, match=reason):
        gob.loads(gob.dumps(Time()), datetime)


# ---- The class Time ----


def test_nanoseconds_are_part_of_the_value() -> None:
    later = WHEN.replace(nanosecond=251)
    assert WHEN.nanosecond == 250
    assert WHEN < later <= later
    assert later > WHEN >= WHEN
    assert later != WHEN
    assert hash(WHEN) != hash(later)
    plain = datetime(2026, 12, 1, 12, 30, 15, 5, UTC)
    assert plain < WHEN
    assert plain < WHEN
    assert plain != WHEN
    assert WHEN.replace(nanosecond=0) == plain
    assert hash(WHEN.replace(nanosecond=0)) == hash(plain)
    assert gob.Time.of(plain, 250) == WHEN
    assert WHEN != "text"
    with pytest.raises(TypeError):
        WHEN < 5  # type: ignore[operator]  # noqa: B015
    for wrong in (-1, 1000):
        with pytest.raises(ValueError, match="nanosecond must be from 0 to 999"):
            WHEN.replace(nanosecond=wrong)


def test_nanoseconds_are_kept_by_what_makes_another_time() -> None:
    zone = timezone(timedelta(hours=1))
    assert WHEN.astimezone(zone) == WHEN
    assert WHEN.astimezone(zone).nanosecond == 250
    assert (WHEN + timedelta(days=1)).nanosecond == 250
    assert (timedelta(days=1) + WHEN).day == 2
    assert (WHEN - timedelta(days=1)).nanosecond == 250
    assert WHEN - WHEN.replace(day=2) == timedelta(days=-1)
    assert datetime(2026, 12, 2, 12, 30, 15, 5, UTC) - WHEN == timedelta(days=1)
    assert WHEN.replace(year=2000).nanosecond == 250
    assert WHEN.replace(2000).year == 2000
    for made in (pickle.loads(pickle.dumps(WHEN)), copy.copy(WHEN), copy.deepcopy(WHEN)):
        assert type(made) is gob.Time
        assert (made, made.nanosecond) == (WHEN, 250)
    with pytest.raises(TypeError):
        WHEN + 5  # type: ignore[operator]
    with pytest.raises(TypeError):
        5 - WHEN  # type: ignore[operator]


def test_text() -> None:
    assert WHEN.isoformat() == "2026-12-01T12:30:15.000005250+00:00"
    assert str(WHEN) == "2026-12-01 12:30:15.000005250+00:00"
    assert WHEN.isoformat(timespec="seconds") == "2026-12-01T12:30:15+00:00"
    assert gob.ZERO_TIME.isoformat() == "0001-01-01T00:00:00+00:00"
    assert gob.ZERO_TIME.isoformat(timespec="nanoseconds") == "0001-01-01T00:00:00.000000000+00:00"
    assert WHEN.isoformat("\U0001f40d")[11:] == "12:30:15.000005250+00:00"
    assert repr(WHEN) == (
        "Time(2026, 12, 1, 12, 30, 15, 5, tzinfo=datetime.timezone.utc, nanosecond=250)"
    )
    assert repr(gob.ZERO_TIME) == "Time(1, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)"


def test_class_methods_of_datetime() -> None:
    assert gob.Time.fromisoformat("2026-12-01T00:00:00+00:00") == datetime(2026, 12, 1, tzinfo=UTC)
    assert type(gob.Time.now(UTC)) is gob.Time


def test_other_subclasses_of_datetime() -> None:
    class Stamp(datetime):  # as those of pandas
        nanosecond = 7

    class Bad(datetime):
        nanosecond = 1000

    class Worse(datetime):
        nanosecond = "x"

    assert back(Stamp(2026, 1, 1, tzinfo=UTC)).nanosecond == 7
    with pytest.raises(GobError, match="its nanosecond must be from 0 to 999, but is 1000"):
        back(Bad(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(TypeError):
        back(Worse(2026, 1, 1, tzinfo=UTC))

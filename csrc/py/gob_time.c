/*
 * Go's time.Time. Its bytes: the version, the seconds since the start of year 1 in UTC (8 bytes,
 * big endian), the nanoseconds (4), the offset of the zone in minutes (2), where -1 is UTC. Version
 * 2 adds a byte with the seconds of the offset.
 */
#include "py/gob_type.h"

#include <datetime.h>

#ifndef PyDateTime_DATE_GET_TZINFO /* CPython 3.9 does not have it */
#define PyDateTime_DATE_GET_TZINFO(value)                                                   \
    (((PyDateTime_DateTime *)(value))->hastzinfo ? ((PyDateTime_DateTime *)(value))->tzinfo \
                                                 : Py_None)
#endif

enum { V1_SIZE = 15, V2_SIZE = 16, DAY = 86400 };

/* Days from the start of year 1 to the start of year 10000. */
#define DAYS 3652059

/* Load the C interface of datetime. Returns 0, or -1 with an exception. */
static int
load_datetime(void)
{
    if (PyDateTimeAPI == NULL) {
        PyDateTime_IMPORT;
    }
    return PyDateTimeAPI != NULL ? 0 : -1;
}

/* ---- The calendar: days are counted from January 1 of year 1, which is day 0 ---- */

static int64_t
days_before_year(int year)
{
    int64_t y = year - 1;

    return y * 365 + y / 4 - y / 100 + y / 400;
}

static bool
is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int
days_before_month(int year, int month)
{
    static const short before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};

    return before[month - 1] + (month > 2 && is_leap(year));
}

/* The date of a day that is within the range of datetime. */
static void
date_of(int64_t days, int *year, int *month, int *day)
{
    int rest;

    *year = (int)(days * 400 / 146097) + 1; /* may be one too many or too few */
    while (days_before_year(*year) > days) {
        (*year)--;
    }
    while (days_before_year(*year + 1) <= days) {
        (*year)++;
    }
    rest = (int)(days - days_before_year(*year));
    *month = rest / 31 + 1;
    if (*month < 12 && rest >= days_before_month(*year, *month + 1)) {
        (*month)++;
    }
    *day = rest - days_before_month(*year, *month) + 1;
}

/* ---- Encoding ---- */

/* The offset of |value| from UTC in seconds. Returns 0, or GP_EUSER. */
static int
find_offset(GobContext *context, PyObject *value, int *seconds)
{
    PyObject *delta;

    if (PyDateTime_DATE_GET_TZINFO(value) == PyDateTime_TimeZone_UTC) {
        *seconds = 0;
        return 0;
    }
    delta = PyObject_CallMethodObjArgs(value, pygo_gob_names.utcoffset, NULL);
    if (delta == NULL) {
        return GP_EUSER;
    }
    if (delta == Py_None) {
        Py_DECREF(delta);
        return pygo_gob_refuse(context, "%R is in no time zone: give it a tzinfo", value);
    }
    *seconds = PyDateTime_DELTA_GET_DAYS(delta) * DAY + PyDateTime_DELTA_GET_SECONDS(delta);
    if (PyDateTime_DELTA_GET_MICROSECONDS(delta) != 0) {
        Py_DECREF(delta);
        return pygo_gob_refuse(context, "Go has no fractions of seconds in the offset of a zone");
    }
    Py_DECREF(delta);
    return 0;
}

/* The nanoseconds beyond the microsecond, of a Time. Returns 0, or GP_EUSER. */
static int
find_nanosecond(GobContext *context, PyObject *value, long *nanosecond)
{
    PyObject *found;

    *nanosecond = 0;
    if (PyDateTime_CheckExact(value)) {
        return 0;
    }
    found = PyObject_GetAttr(value, pygo_gob_names.nanosecond);
    if (found == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return GP_EUSER;
        }
        PyErr_Clear(); /* another subclass of datetime */
        return 0;
    }
    *nanosecond = PyLong_AsLong(found);
    Py_DECREF(found);
    if (*nanosecond == -1 && PyErr_Occurred()) {
        return GP_EUSER;
    }
    if (*nanosecond < 0 || *nanosecond > 999) {
        return pygo_gob_refuse(context, "its nanosecond must be from 0 to 999, but is %ld",
                               *nanosecond);
    }
    return 0;
}

static void
put(unsigned char *out, uint64_t value, int size)
{
    while (size-- > 0) {
        out[size] = (unsigned char)value;
        value >>= 8;
    }
}

int
pygo_gob_time_encode(GobContext *context, PyObject *value, unsigned char *out, bool *zero)
{
    int64_t seconds;
    long nanosecond;
    int offset = 0;
    int minutes;
    int year;

    if (load_datetime() < 0) {
        return GP_EUSER;
    }
    if (!PyDateTime_Check(value)) {
        return pygo_gob_refuse(context, "expected a datetime, found %.100s",
                               value == Py_None ? "None" : Py_TYPE(value)->tp_name);
    }
    if (find_offset(context, value, &offset) < 0 ||
        find_nanosecond(context, value, &nanosecond) < 0) {
        return GP_EUSER;
    }
    year = PyDateTime_GET_YEAR(value);
    seconds = days_before_year(year) + days_before_month(year, PyDateTime_GET_MONTH(value)) +
              PyDateTime_GET_DAY(value) - 1;
    seconds = seconds * DAY + PyDateTime_DATE_GET_HOUR(value) * 3600 +
              PyDateTime_DATE_GET_MINUTE(value) * 60 + PyDateTime_DATE_GET_SECOND(value) - offset;
    nanosecond += PyDateTime_DATE_GET_MICROSECOND(value) * 1000L;
    *zero = seconds == 0 && nanosecond == 0 && offset == 0;

    /* As Go, with an offset that is rounded towards zero. */
    minutes = offset == 0 ? -1 : offset / 60;
    if (minutes == -1 && offset != 0) {
        return pygo_gob_refuse(context, "Go cannot encode a zone whose offset is %d s", offset);
    }
    out[0] = offset % 60 != 0 ? 2 : 1;
    put(out + 1, (uint64_t)seconds, 8);
    put(out + 9, (uint64_t)nanosecond, 4);
    put(out + 13, (uint64_t)(int64_t)minutes, 2);
    if (out[0] == 1) {
        return V1_SIZE;
    }
    out[15] = (unsigned char)(offset % 60);
    return V2_SIZE;
}

/* ---- Decoding ---- */

static uint64_t
get(const unsigned char *bytes, int size)
{
    uint64_t value = 0;

    while (size-- > 0) {
        value = value << 8 | *bytes++;
    }
    return value;
}

bool
pygo_gob_is_time(const unsigned char *bytes, size_t len)
{
    return len > 0 && len == (bytes[0] == 1 ? V1_SIZE : bytes[0] == 2 ? V2_SIZE : 0);
}

/* The time zone with an offset: a new reference, or NULL with an exception. */
static PyObject *
make_zone(int offset)
{
    PyObject *delta;
    PyObject *zone;

    if (offset == 0) {
        return Py_NewRef(PyDateTime_TimeZone_UTC);
    }
    delta = PyDelta_FromDSU(0, offset, 0);
    zone = delta != NULL ? PyTimeZone_FromOffset(delta) : NULL;
    Py_XDECREF(delta);
    return zone;
}

/* Set |made|.nanosecond. Takes |made| over; returns it, or NULL with an exception. */
static PyObject *
with_nanosecond(PyObject *made, uint32_t nanosecond)
{
    PyObject *number = nanosecond != 0 ? PyLong_FromUnsignedLong(nanosecond) : NULL;

    if (nanosecond != 0 &&
        (number == NULL || PyObject_SetAttr(made, pygo_gob_names.own_nanosecond, number) < 0)) {
        Py_CLEAR(made);
    }
    Py_XDECREF(number);
    return made;
}

int
pygo_gob_time_decode(GobContext *context, PyObject *cls, const unsigned char *bytes, size_t len,
                     PyObject **out)
{
    PyObject *zone;
    int64_t seconds;
    uint32_t nanosecond;
    int offset;
    int year;
    int month;
    int day;
    int rest;

    *out = NULL;
    if (!pygo_gob_is_time(bytes, len)) {
        return pygo_gob_refuse(context, "these %zu bytes are no time.Time", len);
    }
    if (load_datetime() < 0) {
        return GP_EUSER;
    }
    seconds = (int64_t)get(bytes + 1, 8);
    nanosecond = (uint32_t)get(bytes + 9, 4);
    offset = (int16_t)get(bytes + 13, 2) * 60;
    offset = offset == -60 ? 0 : offset + (bytes[0] == 2 ? (int8_t)bytes[15] : 0);
    if (nanosecond >= 1000000000 || offset <= -DAY || offset >= DAY) {
        return pygo_gob_refuse(context, "these bytes are no time.Time");
    }
    if (seconds < -offset || seconds >= (int64_t)DAYS * DAY - offset) {
        return pygo_gob_refuse(context,
                               "a datetime cannot hold a time before year 1 or after 9999");
    }
    seconds += offset;
    date_of(seconds / DAY, &year, &month, &day);
    rest = (int)(seconds % DAY);
    zone = make_zone(offset);
    if (zone == NULL) {
        return GP_EUSER;
    }
    *out = PyDateTimeAPI->DateTime_FromDateAndTime(year, month, day, rest / 3600, rest / 60 % 60,
                                                   rest % 60, (int)(nanosecond / 1000), zone,
                                                   (PyTypeObject *)cls);
    Py_DECREF(zone);
    if (*out != NULL) {
        *out = with_nanosecond(*out, nanosecond % 1000);
    }
    return *out != NULL ? 0 : GP_EUSER;
}

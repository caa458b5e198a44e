#include "wire/rfc3339.h"

#include <stdio.h>

/* Days from 1970-01-01 to a date of the Gregorian calendar, whose years here begin in March. */
static int64_t
days_from_date(int64_t year, int month, int day)
{
    int64_t era;
    int64_t year_of_era;
    int64_t day_of_year;

    year -= month <= 2;
    era = (year >= 0 ? year : year - 399) / 400;
    year_of_era = year - era * 400;
    day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static void
date_from_days(int64_t days, int *year, int *month, int *day)
{
    int64_t era;
    int64_t day_of_era;
    int64_t year_of_era;
    int64_t day_of_year;
    int64_t march_month;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    day_of_era = days - era * 146097;
    year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    march_month = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * march_month + 2) / 5 + 1);
    *month = (int)(march_month < 10 ? march_month + 3 : march_month - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2));
}

/* Parse |count| digits at |*at|, followed by |after| unless that is zero. */
static bool
parse_number(gp__text text, size_t *at, size_t count, char after, int *out)
{
    int value = 0;

    if (text.len - *at < count + (after != '\0')) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        char c = text.data[(*at)++];

        if (c < '0' || c > '9') {
            return false;
        }
        value = value * 10 + (c - '0');
    }
    *out = value;
    return after == '\0' || text.data[(*at)++] == after;
}

/* Parse the zone at |at|, which ends |text|: the seconds to subtract to get UTC. */
static bool
parse_zone(gp__text text, size_t at, int *offset)
{
    int sign;
    int hours;
    int minutes;

    if (at + 1 == text.len && (text.data[at] == 'Z' || text.data[at] == 'z')) {
        *offset = 0;
        return true;
    }
    if (at == text.len || (text.data[at] != '+' && text.data[at] != '-')) {
        return false;
    }
    sign = text.data[at++] == '-' ? -1 : 1;
    if (!parse_number(text, &at, 2, ':', &hours) || !parse_number(text, &at, 2, '\0', &minutes) ||
        at != text.len || hours > 23 || minutes > 59) {
        return false;
    }
    *offset = sign * (hours * 3600 + minutes * 60);
    return true;
}

bool
gp__rfc3339_parse(gp__text text, double *out)
{
    size_t at = 0;
    int year, month, day, hour, minute, second, offset;
    double fraction = 0;
    double unit = 1;

    if (!parse_number(text, &at, 4, '-', &year) || !parse_number(text, &at, 2, '-', &month) ||
        !parse_number(text, &at, 2, '\0', &day) || at == text.len ||
        (text.data[at] != 'T' && text.data[at] != 't' && text.data[at] != ' ')) {
        return false;
    }
    at++;
    if (!parse_number(text, &at, 2, ':', &hour) || !parse_number(text, &at, 2, ':', &minute) ||
        !parse_number(text, &at, 2, '\0', &second) || month < 1 || month > 12 || day < 1 ||
        day > 31 || hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    if (at < text.len && (text.data[at] == '.' || text.data[at] == ',')) {
        at++;
        while (at < text.len && text.data[at] >= '0' && text.data[at] <= '9') {
            /* A double has no room for more than 15 digits. */
            if (unit < 1e15) {
                fraction = fraction * 10 + (text.data[at] - '0');
                unit *= 10;
            }
            at++;
        }
        if (unit == 1) {
            return false;
        }
    }
    if (!parse_zone(text, at, &offset)) {
        return false;
    }
    *out = (double)(days_from_date(year, month, day) * 86400 + hour * 3600 + minute * 60 + second -
                    offset) +
           fraction / unit;
    return true;
}

size_t
gp__rfc3339_format(char out[GP__RFC3339_SIZE], int64_t microseconds)
{
    const int64_t day = INT64_C(86400) * 1000000;
    int64_t days = microseconds / day;
    int64_t rest = microseconds % day;
    int year, month, date;
    int seconds;
    int len;

    if (rest < 0) {
        rest += day;
        days--;
    }
    seconds = (int)(rest / 1000000);
    date_from_days(days, &year, &month, &date);
    len = snprintf(out, GP__RFC3339_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", year, month, date,
                   seconds / 3600, seconds / 60 % 60, seconds % 60, (int)(rest % 1000000));
    return (size_t)len;
}

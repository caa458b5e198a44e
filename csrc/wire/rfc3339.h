/*
 * Layer: wire. Timestamps as hclog writes them: 2024-05-06T07:08:09.123456+02:00.
 */
#ifndef GP_WIRE_RFC3339_H
#define GP_WIRE_RFC3339_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

/*
 * Parse a timestamp into seconds since the epoch. Returns false if |text| is not a complete one,
 * with date, time and zone.
 */
bool gp__rfc3339_parse(gp__text text, double *out);

enum { GP__RFC3339_SIZE = 40 };

/* Write a timestamp in UTC with microseconds. Returns the length without the terminating zero. */
size_t gp__rfc3339_format(char out[GP__RFC3339_SIZE], int64_t microseconds);

#endif

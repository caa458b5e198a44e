/*
 * Layer: wire. The members of a JSON object, which are all that hclog needs of JSON.
 *
 * There are two parsers with the same results: a scanner for objects as loggers write them (keys
 * without escapes, values that are not nested deeply), which allocates no memory and is several
 * times as fast as building a tree, and jansson for all others. Pure functions, any thread.
 */
#ifndef GP_WIRE_JSON_H
#define GP_WIRE_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/text.h"

typedef struct gp__json_member {
    gp__text key;    /* decoded */
    gp__text json;   /* the value as JSON text */
    gp__text string; /* of a string: the text between the quotes; of other values: data is NULL */
    bool escaped;    /* |string| has escapes, for gp__json_decode() */
} gp__json_member;

/* Scans one member after the other; strings point into the text. */
typedef struct gp__json_scanner {
    const char *at;
    const char *end;
    bool first;
} gp__json_scanner;

/* Begin at the opening brace of |text|, which must be valid UTF-8. */
void gp__json_scan(gp__json_scanner *scanner, const char *text, size_t len);

/*
 * Returns: 1 with |out| set, 0 after the closing brace of a well-formed object, or -1: this is not
 * an object, or one for jansson. The members that were returned before may then be wrong.
 */
int gp__json_scan_next(gp__json_scanner *scanner, gp__json_member *out);

/* Decode the escapes of a string that the scanner accepted, in place. Returns the new length. */
size_t gp__json_decode(char *string, size_t len);

/*
 * Parse any object with jansson. |*out| and all that it points to is in |arena|.
 *
 * Returns: the number of members, GP_EINVAL if |text| is no JSON object, or GP_ENOMEM.
 */
ptrdiff_t gp__json_object(gp__json_member **out, const char *text, size_t len, gp__arena *arena);

#endif

/*
 * Layer: base. Borrowed text, and how to show bytes that may not be text.
 */
#ifndef GP_BASE_TEXT_H
#define GP_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct gp__text {
    const char *data; /* borrowed; without a terminating zero; NULL: there is no text */
    size_t len;
} gp__text;

#define GP__TEXT(literal) ((gp__text){(literal), sizeof(literal) - 1})

bool gp__text_is(gp__text text, const char *word);
bool gp__text_starts(gp__text text, const char *prefix);

/* Without the white space at either end. */
gp__text gp__text_trim(gp__text text);

/*
 * Parse a decimal integer with an optional sign. Returns false if |text| is anything else, or does
 * not fit an int.
 */
bool gp__text_int(gp__text text, int *out);

/* The text of |errnum|. Returns |out| or a string with static storage. */
const char *gp__errno_text(int errnum, char *out, size_t size);

enum { GP__QUOTED = 320 }; /* room for any result of gp__quote() */

/*
 * Write |bytes| between double quotes, shortened if they are many, with escapes for what is not
 * printable.
 *
 * Returns: |out|, so that the call can be an argument of a printf-like function.
 */
const char *gp__quote(char out[GP__QUOTED], const void *bytes, size_t len);

#endif

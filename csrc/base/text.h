/*
 * Layer: base. Borrowed runs of text, and how to show bytes that may not be text.
 */
#ifndef GP_BASE_TEXT_H
#define GP_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct gp__text {
    const char *data; /* borrowed; not terminated; NULL when there is none */
    size_t len;
} gp__text;

#define GP__TEXT(literal) ((gp__text){(literal), sizeof(literal) - 1})

bool gp__text_is(gp__text text, const char *word);
bool gp__text_starts(gp__text text, const char *prefix);

/* Without the white space (of any kind) at either end. */
gp__text gp__text_trim(gp__text text);

/* A decimal integer with an optional sign that fits an int, and nothing else. */
bool gp__text_int(gp__text text, int *out);

/* What |errnum| means. Returns |out| or a text that is there for good. */
const char *gp__errno_text(int errnum, char *out, size_t size);

enum { GP__QUOTED = 320 }; /* room for what gp__quote makes of any input */

/*
 * Write |bytes| between double quotes, with escapes for what does not print, shortened when long.
 *
 * Returns: |out|, so that it can stand among the arguments of a format.
 */
const char *gp__quote(char out[GP__QUOTED], const void *bytes, size_t len);

#endif

/*
 * Layer: base. UTF-8: finding, checking and replacing what is invalid.
 */
#ifndef GP_BASE_UTF8_H
#define GP_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#define GP__REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/*
 * The length of the valid character at |bytes| (1 to 4), or 0 when there is none; then |*skip| is
 * how many bytes one U+FFFD stands for, as Unicode recommends and Python decodes.
 */
size_t gp__utf8_next(const char *bytes, size_t len, size_t *skip);

bool gp__utf8_valid(const char *bytes, size_t len);

/* Copy |bytes| with U+FFFD for what is invalid, to at most 3 * |len| bytes. Returns the length. */
size_t gp__utf8_repair(char *out, const char *bytes, size_t len);

/* Write one code point. A surrogate becomes U+FFFD. Returns the length, 1 to 4. */
size_t gp__utf8_put(char *out, unsigned long code);

#endif

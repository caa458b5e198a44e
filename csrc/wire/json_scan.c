#include <string.h>

#include "base/utf8.h"
#include "wire/json.h"

/* Values that are nested more deeply are left to jansson: this bounds our recursion. */
enum { DEEPEST = 16 };

static void
skip_space(gp__json_scanner *in)
{
    while (in->at < in->end &&
           (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r')) {
        in->at++;
    }
}

/* Consume |c|, if it is the next character. */
static bool
take_char(gp__json_scanner *in, char c)
{
    if (in->at == in->end || *in->at != c) {
        return false;
    }
    in->at++;
    return true;
}

/* The value of a hexadecimal digit, or -1. */
static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
take_escape(gp__json_scanner *in)
{
    if (in->at == in->end) {
        return false;
    }
    if (*in->at++ != 'u') {
        return strchr("\"\\/bfnrt", in->at[-1]) != NULL && in->at[-1] != '\0';
    }
    if (in->end - in->at < 4) {
        return false;
    }
    for (int i = 0; i < 4; i++) {
        if (hex_digit(*in->at++) < 0) {
            return false;
        }
    }
    return true;
}

/* Consume a string; |out| is the text between its quotes. */
static bool
take_string(gp__json_scanner *in, gp__text *out, bool *escaped)
{
    if (!take_char(in, '"')) {
        return false;
    }
    *escaped = false;
    out->data = in->at;
    for (;;) {
        while (in->at < in->end && *in->at != '"' && *in->at != '\\' &&
               (unsigned char)*in->at >= 0x20) {
            in->at++;
        }
        if (in->at == in->end || (unsigned char)*in->at < 0x20) {
            return false;
        }
        if (*in->at++ == '"') {
            out->len = (size_t)(in->at - 1 - out->data);
            return true;
        }
        *escaped = true;
        if (!take_escape(in)) {
            return false;
        }
    }
}

static bool
take_digits(gp__json_scanner *in)
{
    const char *start = in->at;

    while (in->at < in->end && *in->at >= '0' && *in->at <= '9') {
        in->at++;
    }
    return in->at > start;
}

static bool
take_number(gp__json_scanner *in)
{
    take_char(in, '-');
    if (!take_char(in, '0') && !take_digits(in)) {
        return false;
    }
    if (take_char(in, '.') && !take_digits(in)) {
        return false;
    }
    if (take_char(in, 'e') || take_char(in, 'E')) {
        if (!take_char(in, '+')) {
            take_char(in, '-');
        }
        return take_digits(in);
    }
    return true;
}

static bool
take_word(gp__json_scanner *in, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(in->end - in->at) < len || memcmp(in->at, word, len) != 0) {
        return false;
    }
    in->at += len;
    return true;
}

static bool skip_value(gp__json_scanner *in, int depth);

/* Consume a key and its colon. */
static bool
take_key(gp__json_scanner *in, gp__text *out, bool *escaped)
{
    if (!take_string(in, out, escaped)) {
        return false;
    }
    skip_space(in);
    if (!take_char(in, ':')) {
        return false;
    }
    skip_space(in);
    return true;
}

/* Consume an array or an object with all its values, up to its closing bracket. */
static bool
skip_nested(gp__json_scanner *in, char closing, int depth)
{
    gp__text key;
    bool escaped;

    in->at++;
    skip_space(in);
    if (take_char(in, closing)) {
        return true;
    }
    do {
        skip_space(in);
        if ((closing == '}' && !take_key(in, &key, &escaped)) || !skip_value(in, depth)) {
            return false;
        }
        skip_space(in);
    } while (take_char(in, ','));
    return take_char(in, closing);
}

static bool
skip_value(gp__json_scanner *in, int depth)
{
    gp__text string;
    bool escaped;

    if (in->at == in->end) {
        return false;
    }
    switch (*in->at) {
    case '"':
        return take_string(in, &string, &escaped);
    case '[':
        return depth > 0 && skip_nested(in, ']', depth - 1);
    case '{':
        return depth > 0 && skip_nested(in, '}', depth - 1);
    case 't':
        return take_word(in, "true");
    case 'f':
        return take_word(in, "false");
    case 'n':
        return take_word(in, "null");
    default:
        return take_number(in);
    }
}

static bool
take_value(gp__json_scanner *in, gp__json_member *out)
{
    const char *start = in->at;
    bool ok;

    out->string = (gp__text){NULL, 0};
    out->escaped = false;
    if (in->at < in->end && *in->at == '"') {
        ok = take_string(in, &out->string, &out->escaped);
    } else {
        ok = skip_value(in, DEEPEST);
    }
    out->json = (gp__text){start, (size_t)(in->at - start)};
    return ok;
}

void
gp__json_scan(gp__json_scanner *scanner, const char *text, size_t len)
{
    scanner->at = text;
    scanner->end = text + len;
    scanner->first = true;
}

int
gp__json_scan_next(gp__json_scanner *in, gp__json_member *out)
{
    bool key_escaped;

    skip_space(in);
    if (in->first) {
        if (!take_char(in, '{')) {
            return -1;
        }
        skip_space(in);
    }
    if (take_char(in, '}')) {
        skip_space(in);
        return in->at == in->end ? 0 : -1;
    }
    if (!in->first && !take_char(in, ',')) {
        return -1;
    }
    in->first = false;
    skip_space(in);
    if (!take_key(in, &out->key, &key_escaped) || key_escaped) {
        return -1;
    }
    return take_value(in, out) ? 1 : -1;
}

/* The value of four hexadecimal digits. */
static unsigned long
parse_four_digits(const char *at)
{
    unsigned long value = 0;

    for (int i = 0; i < 4; i++) {
        value = value << 4 | (unsigned long)hex_digit(at[i]);
    }
    return value;
}

/* Decode the escape whose backslash precedes |*at|. Returns the length, at most the escape's. */
static size_t
decode_escape(char *out, const char **at, const char *end)
{
    static const char from[] = "bfnrt";
    static const char to[] = "\b\f\n\r\t";
    char c = *(*at)++;
    const char *control;
    unsigned long code;

    if (c != 'u') {
        control = strchr(from, c);
        *out = control != NULL ? to[control - from] : c;
        return 1;
    }
    code = parse_four_digits(*at);
    *at += 4;
    if (code >= 0xd800 && code <= 0xdbff && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        unsigned long low = parse_four_digits(*at + 2);

        if (low >= 0xdc00 && low <= 0xdfff) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            *at += 6;
        }
    }
    return gp__utf8_put(out, code);
}

size_t
gp__json_decode(char *string, size_t len)
{
    const char *in = string;
    const char *end = string + len;
    char *out = string;

    while (in < end) {
        if (*in == '\\') {
            in++;
            out += decode_escape(out, &in, end);
        } else {
            *out++ = *in++;
        }
    }
    return (size_t)(out - string);
}

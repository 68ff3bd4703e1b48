/* SPDX-License-Identifier: MIT */
#include "json.h"

#include <string.h>

/* Two digits at a time: the divisions are what a number costs. */
char *jc_json_number(char *p, uint64_t v)
{
    static const char PAIR[] =
        "0001020304050607080910111213141516171819"
        "2021222324252627282930313233343536373839"
        "4041424344454647484950515253545556575859"
        "6061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";
    char digits[JC_JSON_NUMBER_MAX + 1], *from = digits + sizeof(digits);
    size_t n;

    for (; v >= 100; v /= 100) {
        from -= 2;
        memcpy(from, PAIR + 2 * (v % 100), 2);
    }
    from -= 2;
    memcpy(from, PAIR + 2 * v, 2);
    from += v < 10;
    n = (size_t)(digits + sizeof(digits) - from);
    memcpy(p, from, n);
    return p + n;
}

/* Bytes of the UTF-8 sequence at s, or of what begins like one and is none. */
static unsigned sequence(const uint8_t *s, size_t n, bool *is)
{
    unsigned len = *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;
    uint8_t low = *s == 0xe0 ? 0xa0 : *s == 0xf0 ? 0x90 : 0x80;
    uint8_t high = *s == 0xed ? 0x9f : *s == 0xf4 ? 0x8f : 0xbf;

    *is = false;
    if (*s < 0xc2 || *s > 0xf4)
        return 1;
    for (unsigned i = 1; i < len; i++) {
        if (i == n || s[i] < low || s[i] > high)
            return i;
        low = 0x80;
        high = 0xbf;
    }
    *is = true;
    return len;
}

/* What can't stand in a string as it is: one such byte, or a sequence. */
static char *put_other(char *p, const uint8_t **s, const uint8_t *end)
{
    static const char HEX[] = "0123456789abcdef";
    const uint8_t *from = *s;
    unsigned n = 1;
    bool is;

    if (*from == '"' || *from == '\\') {
        *p++ = '\\';
        *p++ = (char)*from;
    } else if (*from < 0x20) {
        memcpy(p, "\\u00", 4);
        p[4] = HEX[*from >> 4];
        p[5] = HEX[*from & 15];
        p += 6;
    } else {
        n = sequence(from, (size_t)(end - from), &is);
        memcpy(p, is ? (const char *)from : "\xef\xbf\xbd", is ? n : 3);
        p += is ? n : 3;
    }
    *s += n;
    return p;
}

static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

char *jc_json_string(char *p, struct jc_slice s)
{
    const uint8_t *from = (const uint8_t *)s.p, *end;

    if (!from) {
        memcpy(p, "null", 4);
        return p + 4;
    }
    end = from + s.n;
    *p++ = '"';
    while (from < end) {
        if (is_plain(*from))
            *p++ = (char)*from++;
        else
            p = put_other(p, &from, end);
    }
    *p++ = '"';
    return p;
}

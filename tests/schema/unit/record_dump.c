/* SPDX-License-Identifier: MIT */
/*
 * Decodes the records on standard input and says what it saw, so that a test
 * in Python can hold the C decoder and encoder against schema/vectors.json.
 *
 * In:  one record a line, in hex.
 * Out: per record either "bad <why>", or a line "<field> <value>" for each
 *      field that is not nil (strings and extra in hex after "x"), a line
 *      "again <hex>" with the record encoded once more, and ".".
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "record.h"

static void print_hex(const char *what, const void *bytes, size_t n)
{
    const uint8_t *p = (const uint8_t *)bytes;

    printf("%s ", what);
    for (size_t i = 0; i < n; i++)
        printf("%02x", p[i]);
    putchar('\n');
}

static void print_limit(const struct jc_record *rec)
{
    if (rec->limit_kind == JC_LIMIT_MINUTES)
        printf("time_limit %" PRIu32 "\n", rec->time_limit);
    else if (rec->limit_kind == JC_LIMIT_UNLIMITED)
        printf("time_limit UNLIMITED\n");
    else if (rec->limit_kind == JC_LIMIT_PARTITION)
        printf("time_limit Partition_Limit\n");
}

static void print_field(const struct jc_record *rec, unsigned at)
{
    char label[64];

    snprintf(label, sizeof(label), "%s", jc_fields[at].name);
    if (jc_fields[at].kind == JC_KIND_LIMIT)
        print_limit(rec);
    else if (rec->number[at].known)
        printf("%s %" PRIu64 "\n", label, rec->number[at].value);
    else if (rec->string[at].p)
        print_hex(strcat(label, " x"), rec->string[at].p, rec->string[at].n);
}

static void print_again(const struct jc_record *rec)
{
    size_t size = jc_record_encoded_max(rec);
    uint8_t *buf = malloc(size);
    struct mp_writer w;

    if (!buf)
        abort();
    mp_writer_init(&w, buf, size);
    jc_record_encode(&w, rec);
    if (w.full)
        printf("bad jc_record_encoded_max is too small\n");
    print_hex("again", buf, (size_t)(w.pos - buf));
    free(buf);
}

static void dump(const uint8_t *bytes, size_t n)
{
    struct jc_record rec;
    const char *why = jc_record_decode(&rec, bytes, n);

    if (why) {
        printf("bad %s\n", why);
        return;
    }
    for (unsigned at = 0; at < JC_FIELD_EXTRA; at++)
        print_field(&rec, at);
    print_hex("extra x", rec.extra.p, rec.extra.n);
    printf("state_flags %" PRIu32 "\n", rec.state_flags);
    printf("state_reason_prev %" PRIu32 "\n", rec.state_reason_prev);
    print_again(&rec);
    printf(".\n");
}

/* Turns the line into bytes in a block of exactly that size, so that a
 * sanitizer sees a read past its end. */
static uint8_t *from_hex(const char *line, size_t digits)
{
    uint8_t *bytes = malloc(digits / 2 + !digits);
    char pair[3] = {0};

    if (!bytes)
        abort();
    for (size_t i = 0; i + 1 < digits; i += 2) {
        memcpy(pair, line + i, 2);
        bytes[i / 2] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return bytes;
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    while ((n = getline(&line, &room, stdin)) >= 0) {
        size_t digits = 0;
        uint8_t *bytes;

        while (digits < (size_t)n && isxdigit((unsigned char)line[digits]))
            digits++;
        bytes = from_hex(line, digits);
        dump(bytes, digits / 2);
        free(bytes);
    }
    free(line);
    return 0;
}

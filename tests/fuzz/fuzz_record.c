/* SPDX-License-Identifier: MIT */
/*
 * Bytes as a record: refused, or decoded so that encoding gives bytes that
 * decode to the same and encode to the same bytes again; and what an event says
 * of it fits the size that was promised.
 */
#include "event.h"
#include "fuzz.h"
#include "record.h"

static bool same_slice(struct jc_slice a, struct jc_slice b)
{
    return !a.p == !b.p && a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n));
}

static void must_be_same(const struct jc_record *a, const struct jc_record *b)
{
    for (unsigned at = 0; at < JC_FIELD_COUNT; at++) {
        MUST(a->number[at].known == b->number[at].known);
        MUST(a->number[at].value == b->number[at].value);
        MUST(same_slice(a->string[at], b->string[at]));
    }
    MUST(a->limit_kind == b->limit_kind);
    MUST(a->time_limit == b->time_limit);
    MUST(a->state_flags == b->state_flags);
    MUST(a->state_reason_prev == b->state_reason_prev);
    MUST(same_slice(a->extra, b->extra));
}

static bool count_pair(void *ctx, struct jc_slice key, struct mp_reader value)
{
    size_t *bytes = ctx;
    struct mp_value v;

    *bytes += key.n;
    MUST(mp_read(&value, &v));
    return true;
}

/* Encodes into a buffer of exactly the promised size. */
static size_t encode(const struct jc_record *rec, uint8_t **out)
{
    size_t room = jc_record_encoded_max(rec);
    struct mp_writer w;

    *out = malloc(room);
    mp_writer_init(&w, *out, room);
    jc_record_encode(&w, rec);
    MUST(!w.full);
    return (size_t)(w.pos - *out);
}

/* A buffer that is too small is said to be, and nothing lies behind it. */
static void encode_short(const struct jc_record *rec, size_t n)
{
    uint8_t *small = malloc(n ? n : 1);
    struct mp_writer w;

    mp_writer_init(&w, small, n);
    jc_record_encode(&w, rec);
    MUST(w.full);
    free(small);
}

/* It is JSON of one line, whatever bytes the names hold. */
static void write_event(const struct jc_record *rec, bool again)
{
    struct jc_event ev = {rec, {"s", 1}, UINT64_MAX, again};
    char *text = malloc(jc_event_max(&ev));
    size_t n = jc_event_write(&ev, text);

    MUST(n <= jc_event_max(&ev));
    MUST(text[0] == '{' && text[n - 1] == '}');
    for (size_t i = 0; i < n; i++)
        MUST((unsigned char)text[i] >= 0x20);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jc_record rec, again;
    uint8_t *first, *second;
    size_t n, m, bytes = 0;

    if (jc_record_decode(&rec, data, size))
        return 0;
    jc_extra_each(rec.extra, count_pair, &bytes);
    MUST(bytes <= size);
    write_event(&rec, size & 1);
    n = encode(&rec, &first);
    /* a record with more fields than known gets shorter, never longer than
     * its own bytes in shortest form */
    MUST(n <= size);
    MUST(!jc_record_decode(&again, first, n));
    must_be_same(&rec, &again);
    m = encode(&again, &second);
    MUST(m == n && !memcmp(first, second, n));
    encode_short(&rec, n - 1);
    encode_short(&rec, size % n);
    free(first);
    free(second);
    return 0;
}

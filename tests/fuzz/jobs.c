/* SPDX-License-Identifier: MIT */
#include "jobs.h"

static const char *const texts[] = {
    NULL, "", "alice", "bob", "n[1-3]", "n1", "a&b", "gpu*2,intel", "batch",
    "r[01-10]n[1-2],x7", "a string that is longer than the others by some",
};

#define TEXTS (sizeof(texts) / sizeof(*texts))

static struct jc_slice text_from(struct input *in)
{
    uint8_t which = take_byte(in);
    struct input bytes;

    if (which < 200) {
        const char *text = texts[which % TEXTS];

        return (struct jc_slice){text, text ? (uint32_t)strlen(text) : 0};
    }
    bytes = take_bytes(in, which - 200);
    for (size_t i = 0; i < bytes.n; i++)
        if (!bytes.p[i]) /* no record has a NUL inside a string */
            bytes.n = i;
    return (struct jc_slice){(const char *)bytes.p, (uint32_t)bytes.n};
}

/* Small ones mostly, the column's largest now and then. */
static uint64_t number_from(struct input *in, uint64_t max)
{
    uint8_t b = take_byte(in);

    if (b == 255)
        return max;
    if (b >= 250)
        return max ? take_u64(in) % max : 0;
    return b % 8 <= max ? b % 8 : max;
}

static void extra_from(struct input *in, struct jc_record *rec,
                       uint8_t extra[64])
{
    uint8_t what = take_byte(in);
    struct mp_writer w;

    mp_writer_init(&w, extra, 64);
    mp_write_map(&w, !!(what & 1) + !!(what & 2) + !!(what & 4));
    if (what & 1) {
        rec->state_flags = UINT32_C(1) << (8 + (what >> 4));
        mp_write_str(&w, "state_flags", 11);
        mp_write_uint(&w, rec->state_flags);
    }
    if (what & 2) {
        rec->state_reason_prev = what >> 5;
        mp_write_str(&w, "state_reason_prev", 17);
        mp_write_uint(&w, rec->state_reason_prev);
    }
    if (what & 4) {
        mp_write_str(&w, "comment", 7);
        mp_write_str(&w, texts[2 + (what >> 5)], 2);
    }
    MUST(!w.full);
    rec->extra = (struct jc_slice){(char *)extra, (uint32_t)(w.pos - extra)};
}

struct jc_record job_from(struct input *in, uint8_t extra[64])
{
    struct jc_record rec;
    uint8_t shape = take_byte(in);

    memset(&rec, 0, sizeof(rec));
    for (unsigned at = 0; at < JC_FIELD_COUNT; at++) {
        const struct jc_field *field = &jc_fields[at];

        if (field->kind == JC_KIND_NUMBER && field->required)
            rec.number[at] = (struct jc_number){0, true};
        /* the other columns only of records that say so: short inputs */
        if (field->kind == JC_KIND_NUMBER && (shape & 1) &&
            (field->required || take_byte(in) & 1))
            rec.number[at] = (struct jc_number){number_from(in, field->max),
                                                true};
        if (field->kind == JC_KIND_STRING && (shape & 2))
            rec.string[at] = text_from(in);
    }
    rec.number[JC_FIELD_VERSION].value = JC_RECORD_VERSION;
    rec.number[JC_FIELD_JOB_ID].value = 1 + take_byte(in) % 32;
    rec.number[JC_FIELD_END].value = (uint64_t)FUZZ_DAY * JC_DAY_SECONDS +
                                     take_byte(in) % 16;
    if (shape & 4) {
        rec.number[JC_FIELD_SUBMIT].value = take_byte(in) % 4;
        rec.number[JC_FIELD_START].value =
            (uint64_t)FUZZ_DAY * JC_DAY_SECONDS + take_byte(in) % 16;
        rec.number[JC_FIELD_ELIGIBLE].value =
            rec.number[JC_FIELD_START].value;
        rec.number[JC_FIELD_RESTART_COUNT].value = take_byte(in) % 2;
        rec.string[JC_FIELD_CLUSTER] = text_from(in);
    }
    rec.limit_kind = (enum jc_limit)(shape >> 6);
    if (rec.limit_kind == JC_LIMIT_MINUTES)
        rec.time_limit = (uint32_t)number_from(
            in, jc_fields[JC_FIELD_TIME_LIMIT].max);
    extra_from(in, &rec, extra);
    return rec;
}

static bool same_slice(struct jc_slice a, struct jc_slice b)
{
    return !a.p == !b.p && a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n));
}

bool same_job(const struct jc_record *a, const struct jc_record *b)
{
    for (unsigned at = 0; at < JC_FIELD_COUNT; at++)
        if (a->number[at].known != b->number[at].known ||
            a->number[at].value != b->number[at].value ||
            !same_slice(a->string[at], b->string[at]))
            return false;
    return a->limit_kind == b->limit_kind && a->time_limit == b->time_limit &&
           a->state_flags == b->state_flags &&
           a->state_reason_prev == b->state_reason_prev &&
           same_slice(a->extra, b->extra);
}

static const unsigned order[] = {
    JC_FIELD_END, JC_FIELD_JOB_ID, JC_FIELD_SUBMIT, JC_FIELD_START,
    JC_FIELD_RESTART_COUNT,
};

int compare_jobs(const struct jc_record *a, const struct jc_record *b)
{
    struct jc_slice x = a->string[JC_FIELD_CLUSTER];
    struct jc_slice y = b->string[JC_FIELD_CLUSTER];
    uint32_t n = x.n < y.n ? x.n : y.n;
    int c;

    for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++) {
        uint64_t u = a->number[order[i]].value, v = b->number[order[i]].value;

        if (u != v)
            return u < v ? -1 : 1;
    }
    if (!x.p || !y.p)
        return !!x.p - !!y.p;
    c = n ? memcmp(x.p, y.p, n) : 0;
    return c ? c : (x.n > y.n) - (x.n < y.n);
}

bool same_run_of_job(const struct jc_record *a, const struct jc_record *b)
{
    struct jc_record x = *a;

    x.number[JC_FIELD_END] = b->number[JC_FIELD_END];
    return compare_jobs(&x, b) == 0;
}

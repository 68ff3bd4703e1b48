/* SPDX-License-Identifier: MIT */
#include "record.h"

static const char UNLIMITED[] = "UNLIMITED";
static const char PARTITION_LIMIT[] = "Partition_Limit";

static bool value_is(const struct mp_value *v, const char *text)
{
    size_t n = strlen(text);

    return v->type == MP_STR && v->n == n && !memcmp(v->p, text, n);
}

/* ---- decode ---- */

/*
 * The forms that nearly all values of a record have, read without mp_read, whose
 * many cases cost more than all else here. False: it is another form, or cut
 * short, and mp_read's to judge.
 */
static inline bool read_number(struct mp_reader *r, uint64_t *out)
{
    const uint8_t *p = r->pos;
    size_t left = (size_t)(r->end - p);

    if (left >= 1 && p[0] < 0x80) {
        *out = p[0];
        r->pos = p + 1;
    } else if (left >= 5 && p[0] == 0xce) {
        *out = mp_big_endian(p + 1, 4);
        r->pos = p + 5;
    } else if (left >= 3 && p[0] == 0xcd) {
        *out = mp_big_endian(p + 1, 2);
        r->pos = p + 3;
    } else {
        return false;
    }
    return true;
}

static inline bool read_string(struct mp_reader *r, struct mp_value *out)
{
    const uint8_t *p = r->pos;
    size_t left = (size_t)(r->end - p), n;

    if (left >= 1 && (p[0] & 0xe0) == 0xa0) {
        n = p[0] & 0x1f;
        p += 1;
        left -= 1;
    } else if (left >= 2 && p[0] == 0xd9) {
        n = p[1];
        p += 2;
        left -= 2;
    } else {
        return false;
    }
    if (left < n)
        return false;
    out->type = MP_STR;
    out->p = p;
    out->n = (uint32_t)n;
    r->pos = p + n;
    return true;
}

static bool read_nil(struct mp_reader *r)
{
    if (r->pos == r->end || *r->pos != 0xc0)
        return false;
    r->pos++;
    return true;
}

static const char *decode_number(struct jc_number *out,
                                 const struct jc_field *field,
                                 const struct mp_value *v)
{
    if (v->type != MP_UINT)
        return "a number field holds something else than a number >= 0";
    if (v->u > field->max)
        return "a number is larger than its field allows";
    out->value = v->u;
    out->known = true;
    return NULL;
}

static const char *decode_string(struct jc_slice *out,
                                 const struct mp_value *v)
{
    if (v->type != MP_STR)
        return "a string field holds something else than a string";
    if (v->n && memchr(v->p, 0, v->n))
        return "a string holds a NUL byte";
    out->p = (const char *)v->p;
    out->n = v->n;
    return NULL;
}

static const char *decode_limit(struct jc_record *rec,
                                const struct jc_field *field,
                                const struct mp_value *v)
{
    if (v->type == MP_UINT && v->u <= field->max) {
        rec->limit_kind = JC_LIMIT_MINUTES;
        rec->time_limit = (uint32_t)v->u;
    } else if (value_is(v, UNLIMITED)) {
        rec->limit_kind = JC_LIMIT_UNLIMITED;
    } else if (value_is(v, PARTITION_LIMIT)) {
        rec->limit_kind = JC_LIMIT_PARTITION;
    } else {
        return "time_limit is neither minutes nor UNLIMITED nor "
               "Partition_Limit";
    }
    return NULL;
}

static bool slice_is(struct jc_slice slice, const char *text)
{
    size_t n = strlen(text);

    return slice.n == n && !memcmp(slice.p, text, n);
}

/* Notes the keys of extra that criteria and sacct's columns ask about. */
static void take_extra(struct jc_record *rec, struct jc_slice key,
                       struct mp_reader value)
{
    struct mp_value v;
    uint32_t *out = slice_is(key, "state_flags")         ? &rec->state_flags
                    : slice_is(key, "state_reason_prev") ? &rec->state_reason_prev
                    : slice_is(key, "suspended")         ? &rec->suspended
                                                         : NULL;

    if (!out && !slice_is(key, "orig_start") && !slice_is(key, "cancelled_by"))
        return;
    if (!mp_read(&value, &v) || v.type != MP_UINT)
        return;
    if (!out && key.p[0] == 'o')
        rec->orig_start = v.u;
    else if (!out)
        rec->cancelled_by = (struct jc_number){v.u, v.u <= UINT32_MAX};
    else if (v.u <= UINT32_MAX)
        *out = (uint32_t)v.u;
}

/* r stands on the map; it is checked pair by pair and passed over. */
static const char *decode_extra(struct jc_record *rec, struct mp_reader *r)
{
    const uint8_t *start = r->pos;
    struct mp_value head, key, text;
    struct mp_reader value;

    if (!mp_read(r, &head) || head.type != MP_MAP)
        return "extra is not a map";
    for (uint32_t i = 0; i < head.n; i++) {
        if (!read_string(r, &key) && (!mp_read(r, &key) || key.type != MP_STR))
            return "a key in extra is not a string";
        value = *r;
        if (read_string(r, &text))
            continue; /* what is noted are numbers */
        if (!mp_skip(r))
            return "a value in extra is cut short or nested too deep";
        take_extra(rec, (struct jc_slice){(const char *)key.p, key.n}, value);
    }
    rec->extra.p = (const char *)start;
    rec->extra.n = (uint32_t)(r->pos - start);
    return NULL;
}

static const char *decode_field(struct jc_record *rec, struct mp_reader *r,
                                unsigned at)
{
    const struct jc_field *field = &jc_fields[at];
    struct mp_value v;

    if (field->kind == JC_KIND_EXTRA)
        return decode_extra(rec, r);
    if (read_nil(r))
        return field->required ? "a required field is nil" : NULL;
    if (field->kind == JC_KIND_NUMBER && read_number(r, &v.u))
        v.type = MP_UINT;
    else if (!(field->kind == JC_KIND_STRING && read_string(r, &v)) &&
             !mp_read(r, &v))
        return "the record is cut short";
    switch (field->kind) {
    case JC_KIND_NUMBER:
        return decode_number(&rec->number[at], field, &v);
    case JC_KIND_STRING:
        return decode_string(&rec->string[at], &v);
    default:
        return decode_limit(rec, field, &v);
    }
}

const char *jc_record_decode(struct jc_record *rec, const void *buf,
                             size_t size)
{
    struct mp_reader r;
    struct mp_value head;
    const char *why;

    if (size > JC_RECORD_MAX_BYTES)
        return "the record is larger than 1 MiB";
    memset(rec, 0, sizeof(*rec));
    mp_reader_init(&r, buf, size);
    if (!mp_read(&r, &head) || head.type != MP_ARRAY)
        return "the record is not a MessagePack array";
    if (head.n < JC_FIELD_COUNT)
        return "the record has too few fields";
    for (unsigned at = 0; at < JC_FIELD_COUNT; at++)
        if ((why = decode_field(rec, &r, at)))
            return why;
    for (uint32_t more = JC_FIELD_COUNT; more < head.n; more++)
        if (!mp_skip(&r))
            return "the record is cut short";
    if (r.pos != r.end)
        return "bytes are left over behind the record";
    if (rec->number[JC_FIELD_VERSION].value != JC_RECORD_VERSION)
        return "the record's version is not 1";
    if (!rec->number[JC_FIELD_JOB_ID].value)
        return "job_id is 0";
    if (!rec->number[JC_FIELD_END].value)
        return "end is 0";
    return NULL;
}

void jc_extra_each(struct jc_slice extra,
                   bool (*each)(void *ctx, struct jc_slice key,
                                struct mp_reader value),
                   void *ctx)
{
    struct mp_reader r, value;
    struct mp_value head, key;

    mp_reader_init(&r, extra.p, extra.n);
    if (!mp_read(&r, &head) || head.type != MP_MAP)
        return;
    for (uint32_t i = 0; i < head.n; i++) {
        if (!mp_read(&r, &key) || key.type != MP_STR)
            return;
        value = r;
        if (!mp_skip(&r))
            return;
        value.end = r.pos;
        if (!each(ctx, (struct jc_slice){(const char *)key.p, key.n}, value))
            return;
    }
}

/* ---- encode ---- */

static void encode_limit(struct mp_writer *w, const struct jc_record *rec)
{
    switch (rec->limit_kind) {
    case JC_LIMIT_NIL:
        mp_write_nil(w);
        break;
    case JC_LIMIT_MINUTES:
        mp_write_uint(w, rec->time_limit);
        break;
    case JC_LIMIT_UNLIMITED:
        mp_write_str(w, UNLIMITED, sizeof(UNLIMITED) - 1);
        break;
    case JC_LIMIT_PARTITION:
        mp_write_str(w, PARTITION_LIMIT, sizeof(PARTITION_LIMIT) - 1);
        break;
    }
}

void jc_record_encode_fields(struct mp_writer *w, const struct jc_record *rec)
{
    mp_write_array(w, JC_FIELD_COUNT);
    for (unsigned at = 0; at < JC_FIELD_EXTRA; at++) {
        if (jc_fields[at].kind == JC_KIND_LIMIT)
            encode_limit(w, rec);
        else if (rec->number[at].known)
            mp_write_uint(w, rec->number[at].value);
        else if (rec->string[at].p)
            mp_write_str(w, rec->string[at].p, rec->string[at].n);
        else
            mp_write_nil(w);
    }
}

void jc_record_encode(struct mp_writer *w, const struct jc_record *rec)
{
    jc_record_encode_fields(w, rec);
    if (rec->extra.p)
        mp_write_raw(w, rec->extra.p, rec->extra.n);
    else
        mp_write_map(w, 0);
}

size_t jc_record_encoded_max(const struct jc_record *rec)
{
    /* the array's head, then at most a 9-byte head per field */
    size_t size = 5 + (size_t)JC_FIELD_COUNT * 9 + sizeof(PARTITION_LIMIT) +
                  rec->extra.n;

    for (unsigned at = 0; at < JC_FIELD_COUNT; at++)
        size += rec->string[at].n;
    return size;
}

/* SPDX-License-Identifier: MIT */
#include "rows.h"

#include "msgpack.h"

enum { SHARED, REQUIRED, OPTIONAL, SLUID, LIMIT, STRING, EXTRA };

/* A shared string longer than this is copied row by row like any other. */
#define SHARED_MAX 64
/* Bytes a column takes besides its string: a head, or a number, or the longest
 * word a time limit is written as. */
#define COLUMN_MAX 20

void jc_rows_reset(struct jc_rows *r)
{
    r->serial = 0;
    r->n = 0;
}

/* ---- writing ---- */

static uint8_t *put_uint(uint8_t *p, uint64_t v)
{
    /* by the bytes a number fills: bytes it is written in, and their tag */
    static const uint8_t width[] = {1, 2, 4, 4, 8, 8, 8, 8};
    static const uint8_t tag[] = {0xcc, 0xcd, 0xce, 0xce,
                                  0xcf, 0xcf, 0xcf, 0xcf};
    unsigned bytes;

    if (v < 0x80) {
        *p = (uint8_t)v;
        return p + 1;
    }
    bytes = (unsigned)(63 - __builtin_clzll(v)) / 8;
    *p++ = tag[bytes];
    v = __builtin_bswap64(v << (64 - 8 * width[bytes]));
    memcpy(p, &v, sizeof(v));
    return p + width[bytes];
}

static uint8_t *put_bytes(uint8_t *p, const char *from, uint32_t n)
{
    if (n >= 8 && n <= 16) { /* most names; a call costs more than the copy */
        uint64_t a, b;

        memcpy(&a, from, 8);
        memcpy(&b, from + n - 8, 8);
        memcpy(p, &a, 8);
        memcpy(p + n - 8, &b, 8);
    } else if (n) {
        memcpy(p, from, n);
    }
    return p + n;
}

static uint8_t *put_string(uint8_t *p, struct jc_slice s)
{
    if (!s.p) {
        *p++ = 0xc0;
        return p;
    }
    if (s.n < 32) {
        *p++ = (uint8_t)(0xa0 | s.n);
    } else if (s.n <= UINT8_MAX) {
        *p++ = 0xd9;
        *p++ = (uint8_t)s.n;
    } else {
        struct mp_writer w;

        mp_writer_init(&w, p, COLUMN_MAX);
        if (s.n <= UINT16_MAX)
            mp_write_tag(&w, 0xda, s.n, 2);
        else
            mp_write_tag(&w, 0xdb, s.n, 4);
        p = w.pos;
    }
    return put_bytes(p, s.p, s.n);
}

static uint8_t *put_limit(uint8_t *p, uint64_t code)
{
    static const char UNLIMITED[] = "UNLIMITED";
    static const char PARTITION[] = "Partition_Limit";

    if (code == JC_CODE_UNLIMITED)
        return put_string(p, (struct jc_slice){UNLIMITED,
                                               sizeof(UNLIMITED) - 1});
    if (code >= 2)
        return put_uint(p, code - 2);
    return put_string(p, code ? (struct jc_slice){PARTITION,
                                                  sizeof(PARTITION) - 1}
                              : (struct jc_slice){NULL, 0});
}

static uint8_t *put_optional(uint8_t *p, uint64_t code)
{
    if (code)
        return put_uint(p, code - 1);
    *p = 0xc0;
    return p + 1;
}

/* ---- a block ---- */

static uint8_t kind_of(unsigned col)
{
    switch (jc_fields[col].kind) {
    case JC_KIND_STRING:
        return STRING;
    case JC_KIND_EXTRA:
        return EXTRA;
    case JC_KIND_LIMIT:
        return LIMIT;
    default:
        return col == JC_FIELD_SLUID       ? SLUID
               : jc_fields[col].required ? REQUIRED
                                           : OPTIONAL;
    }
}

/* Writes a column that has one code in the whole block; NULL: it has many, or
 * its string is long or in the block's heap. */
static uint8_t *put_shared(uint8_t *p, const struct jc_segment *s,
                           const struct jc_block *b, unsigned col)
{
    uint64_t code = b->lo[col];
    struct jc_slice str = {NULL, 0};

    if (col == JC_FIELD_VERSION)
        return put_uint(p, JC_RECORD_VERSION);
    if (b->hi[col] != code ||
        (col == JC_FIELD_SLUID && b->hi[JC_COL_SLUID_KNOWN]))
        return NULL;
    switch (kind_of(col)) {
    case REQUIRED:
        return put_uint(p, code);
    case LIMIT:
        return put_limit(p, code);
    case SLUID:
        return put_string(p, str);
    case OPTIONAL:
        return put_optional(p, code);
    default:
        break;
    }
    if (code && !jc_code_is_dict(code))
        return NULL;
    if (code)
        str = jc_dict_get(&s->dict[col], (uint32_t)(code >> 1));
    if (str.n > SHARED_MAX)
        return NULL;
    if (kind_of(col) == STRING)
        return put_string(p, str);
    *p = 0x80;
    return code ? put_bytes(p, str.p, str.n) : p + 1;
}

_Static_assert(JC_FIELD_COUNT * (SHARED_MAX + COLUMN_MAX) <
                   sizeof(((struct jc_rows *)0)->shared),
               "all columns may be shared");

/* Cuts the rows of a block into pieces. */
static void cut(struct jc_rows *r, const struct jc_segment *s,
                const struct jc_block *b)
{
    struct mp_writer w;
    uint8_t *p;

    mp_writer_init(&w, r->shared, sizeof(r->shared));
    mp_write_array(&w, JC_FIELD_COUNT);
    p = w.pos;
    r->piece[0] = (struct jc_rows_piece){.n = (uint16_t)(p - r->shared)};
    r->pieces = 1;
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++) {
        struct jc_rows_piece *last = &r->piece[r->pieces - 1];
        uint8_t *end = put_shared(p, s, b, col);

        if (!end) {
            r->piece[r->pieces++] = (struct jc_rows_piece){
                .kind = kind_of(col), .col = (uint8_t)col};
        } else if (last->kind == SHARED) {
            last->n = (uint16_t)(last->n + (end - p));
        } else {
            r->piece[r->pieces++] = (struct jc_rows_piece){
                .at = (uint16_t)(p - r->shared), .n = (uint16_t)(end - p)};
        }
        p = end ? end : p;
    }
}

/* ---- some rows of it ---- */

static void load_strings(struct jc_rows *r, const struct jc_segment *s,
                         const struct jc_block *b, unsigned col)
{
    const struct jc_dict *d = &s->dict[col];
    struct jc_slice *out = r->string[col];

    for (uint32_t i = 0; i < r->n; i++) {
        uint64_t code = r->code[col][i];

        if (!code)
            out[i] = (struct jc_slice){NULL, 0};
        else if (jc_code_is_dict(code))
            out[i] = jc_dict_get(d, (uint32_t)(code >> 1));
        else
            out[i] = jc_block_string(b, code);
        r->bytes[i] += out[i].n;
    }
}

static void load(struct jc_rows *r, const struct jc_segment *s,
                 const struct jc_block *b, uint32_t from)
{
    uint32_t fixed = sizeof(uint64_t); /* numbers are written in eights */

    r->from = from;
    r->n = b->rows - from < JC_ROWS_TILE ? b->rows - from : JC_ROWS_TILE;
    for (uint32_t k = 0; k < r->pieces; k++)
        fixed += r->piece[k].kind == SHARED ? r->piece[k].n : COLUMN_MAX;
    for (uint32_t i = 0; i < r->n; i++)
        r->bytes[i] = fixed;
    for (uint32_t k = 0; k < r->pieces; k++) {
        unsigned col = r->piece[k].col;

        if (r->piece[k].kind == SHARED)
            continue;
        jc_block_part(b, col, from, r->n, r->code[col]);
        if (jc_column_is_string(col))
            load_strings(r, s, b, col);
        else if (col == JC_FIELD_SLUID)
            jc_block_part(b, JC_COL_SLUID_KNOWN, from, r->n,
                          r->code[JC_COL_SLUID_KNOWN]);
    }
}

static bool same_block(const struct jc_rows *r, const struct jc_segment *s,
                       uint32_t block)
{
    return r->serial == s->serial && r->layout == s->layout &&
           r->block == block;
}

bool jc_rows_holds(const struct jc_rows *r, const struct jc_segment *s,
                   struct jc_place place)
{
    return same_block(r, s, place.block) && place.row - r->from < r->n;
}

size_t jc_rows_at(struct jc_rows *r, const struct jc_segment *s,
                  struct jc_place place)
{
    const struct jc_block *b = s->order[place.block];

    if (!same_block(r, s, place.block)) {
        r->serial = s->serial;
        r->layout = s->layout;
        r->block = place.block;
        r->n = 0;
        cut(r, s, b);
    }
    if (place.row - r->from >= r->n)
        load(r, s, b, place.row & ~7u);
    return r->bytes[place.row - r->from];
}

size_t jc_rows_write(const struct jc_rows *r, uint32_t row, uint8_t *out)
{
    uint32_t at = row - r->from;
    uint8_t *p = out;

    for (uint32_t k = 0; k < r->pieces; k++) {
        const struct jc_rows_piece *piece = &r->piece[k];
        uint64_t code = r->code[piece->col][at];
        struct jc_slice str;

        switch (piece->kind) {
        case SHARED:
            memcpy(p, r->shared + piece->at, piece->n);
            p += piece->n;
            break;
        case REQUIRED:
            p = put_uint(p, code);
            break;
        case OPTIONAL:
            p = put_optional(p, code);
            break;
        case SLUID:
            if (r->code[JC_COL_SLUID_KNOWN][at])
                p = put_uint(p, code);
            else
                *p++ = 0xc0;
            break;
        case LIMIT:
            p = put_limit(p, code);
            break;
        case STRING:
            p = put_string(p, r->string[piece->col][at]);
            break;
        default: /* EXTRA, absent like an empty map */
            str = r->string[piece->col][at];
            *p = 0x80;
            p = str.p ? put_bytes(p, str.p, str.n) : p + 1;
        }
    }
    return (size_t)(p - out);
}

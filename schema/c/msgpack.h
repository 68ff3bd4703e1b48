/* SPDX-License-Identifier: MIT */
/*
 * MessagePack, as much of it as a job record needs: a writer that fills a
 * buffer it was given and a reader over bytes that nobody vouches for.
 *
 * Why not msgpack-c: the writer runs in slurmctld under its job write lock and
 * must not allocate; the reader runs in Redis on bytes from RESTORE and must
 * neither allocate nor recurse deeper than it says. Both are header-only so
 * that the hook pays no calls.
 *
 * The format is that of the MessagePack specification; the writer always
 * chooses the shortest form of a value.
 */
#ifndef SLURMJCD_MSGPACK_H
#define SLURMJCD_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- writer ---- */

/* Fills [pos, end). Once something did not fit, full stays true and nothing
 * more is written: check it once, at the end. */
struct mp_writer {
    uint8_t *pos;
    uint8_t *end;
    bool full;
};

static inline void mp_writer_init(struct mp_writer *w, void *buf, size_t size)
{
    w->pos = (uint8_t *)buf;
    w->end = w->pos + size;
    w->full = false;
}

/* Appends n bytes as they are (they must be MessagePack themselves). */
static inline void mp_write_raw(struct mp_writer *w, const void *bytes,
                                size_t n)
{
    if (w->full || (size_t)(w->end - w->pos) < n) {
        w->full = true;
        return;
    }
    if (n) /* bytes may be NULL when there are none */
        memcpy(w->pos, bytes, n);
    w->pos += n;
}

/* Appends the type byte and an n-byte big-endian number, n in 0, 1, 2, 4, 8. */
static inline void mp_write_tag(struct mp_writer *w, uint8_t type, uint64_t v,
                                unsigned n)
{
    uint8_t b[9];

    b[0] = type;
    for (unsigned i = 0; i < n; i++)
        b[1 + i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    mp_write_raw(w, b, 1 + (size_t)n);
}

static inline void mp_write_nil(struct mp_writer *w)
{
    mp_write_tag(w, 0xc0, 0, 0);
}

static inline void mp_write_uint(struct mp_writer *w, uint64_t v)
{
    if (v < 0x80)
        mp_write_tag(w, (uint8_t)v, 0, 0);
    else if (v <= UINT8_MAX)
        mp_write_tag(w, 0xcc, v, 1);
    else if (v <= UINT16_MAX)
        mp_write_tag(w, 0xcd, v, 2);
    else if (v <= UINT32_MAX)
        mp_write_tag(w, 0xce, v, 4);
    else
        mp_write_tag(w, 0xcf, v, 8);
}

static inline void mp_write_str(struct mp_writer *w, const char *s, size_t n)
{
    if (n < 32)
        mp_write_tag(w, (uint8_t)(0xa0 | n), 0, 0);
    else if (n <= UINT8_MAX)
        mp_write_tag(w, 0xd9, n, 1);
    else if (n <= UINT16_MAX)
        mp_write_tag(w, 0xda, n, 2);
    else if (n <= UINT32_MAX)
        mp_write_tag(w, 0xdb, n, 4);
    else
        w->full = true;
    mp_write_raw(w, s, n);
}

/* n elements follow. */
static inline void mp_write_array(struct mp_writer *w, uint32_t n)
{
    if (n < 16)
        mp_write_tag(w, (uint8_t)(0x90 | n), 0, 0);
    else if (n <= UINT16_MAX)
        mp_write_tag(w, 0xdc, n, 2);
    else
        mp_write_tag(w, 0xdd, n, 4);
}

/* n pairs of key and value follow. */
static inline void mp_write_map(struct mp_writer *w, uint32_t n)
{
    if (n < 16)
        mp_write_tag(w, (uint8_t)(0x80 | n), 0, 0);
    else if (n <= UINT16_MAX)
        mp_write_tag(w, 0xde, n, 2);
    else
        mp_write_tag(w, 0xdf, n, 4);
}

/* ---- reader ---- */

/* Reads [pos, end); a failed read leaves pos where it was. */
struct mp_reader {
    const uint8_t *pos;
    const uint8_t *end;
};

enum mp_type {
    MP_NIL,
    MP_BOOL,
    MP_UINT, /* a number >= 0, however it was written */
    MP_INT,  /* a number < 0 */
    MP_FLOAT,
    MP_STR,
    MP_BIN,
    MP_ARRAY, /* n elements follow in the reader */
    MP_MAP,   /* n pairs follow in the reader */
    MP_EXT,
};

/* One value; for arrays and maps only their head. */
struct mp_value {
    enum mp_type type;
    uint64_t u;        /* MP_UINT, MP_BOOL */
    int64_t i;         /* MP_INT */
    const uint8_t *p;  /* MP_STR, MP_BIN, MP_EXT, MP_FLOAT: first byte */
    uint32_t n;        /* bytes of those; elements or pairs of the others */
};

/* Arrays and maps inside each other that mp_skip follows. */
#define MP_MAX_DEPTH 8

static inline void mp_reader_init(struct mp_reader *r, const void *buf,
                                  size_t size)
{
    r->pos = (const uint8_t *)buf;
    r->end = r->pos + size;
}

/* The big-endian number in the n bytes at p. */
static inline uint64_t mp_big_endian(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* Sets v to a number of n bytes at p that was written as signed. */
static inline void mp_set_signed(struct mp_value *v, const uint8_t *p,
                                 unsigned n)
{
    uint64_t u = mp_big_endian(p, n);
    int64_t i = n == 1   ? (int8_t)u
                : n == 2 ? (int16_t)u
                : n == 4 ? (int32_t)u
                         : (int64_t)u;

    v->type = i < 0 ? MP_INT : MP_UINT;
    v->i = i;
    v->u = (uint64_t)i;
}

/*
 * Reads one value, or the head of an array or a map. False when the bytes end
 * too early or hold the one type byte MessagePack never uses (0xc1). A string's
 * bytes are checked to be there; an array's elements are not, but an announced
 * count larger than the bytes that are left is refused.
 */
static inline bool mp_read(struct mp_reader *r, struct mp_value *v)
{
    const uint8_t *p = r->pos;
    size_t left = (size_t)(r->end - p);
    unsigned width = 0; /* bytes of the number behind the type byte */
    size_t body = 0;    /* bytes of payload behind that */
    uint8_t t;

    if (left < 1)
        return false;
    t = *p++;
    left--;
    *v = (struct mp_value){.type = MP_NIL};

    switch (t) {
    case 0xc4: case 0xc7: case 0xcc: case 0xd0: case 0xd9:
        width = 1;
        break;
    case 0xc5: case 0xc8: case 0xcd: case 0xd1: case 0xda: case 0xdc:
    case 0xde:
        width = 2;
        break;
    case 0xc6: case 0xc9: case 0xca: case 0xce: case 0xd2: case 0xdb:
    case 0xdd: case 0xdf:
        width = 4;
        break;
    case 0xcb: case 0xcf: case 0xd3:
        width = 8;
        break;
    default:
        break;
    }
    if (left < width)
        return false;

    if (t < 0x80) {
        v->type = MP_UINT;
        v->u = t;
    } else if (t < 0x90) {
        v->type = MP_MAP;
        v->n = t & 0x0f;
    } else if (t < 0xa0) {
        v->type = MP_ARRAY;
        v->n = t & 0x0f;
    } else if (t < 0xc0) {
        v->type = MP_STR;
        v->n = t & 0x1f;
        body = v->n;
    } else if (t >= 0xe0) {
        v->type = MP_INT;
        v->i = (int8_t)t;
    } else {
        switch (t) {
        case 0xc0:
            break;
        case 0xc1:
            return false;
        case 0xc2: case 0xc3:
            v->type = MP_BOOL;
            v->u = t & 1;
            break;
        case 0xc4: case 0xc5: case 0xc6:
            v->type = MP_BIN;
            v->n = (uint32_t)mp_big_endian(p, width);
            body = v->n;
            break;
        case 0xc7: case 0xc8: case 0xc9:
            v->type = MP_EXT;
            v->n = (uint32_t)mp_big_endian(p, width);
            body = (size_t)v->n + 1; /* and the ext type byte */
            break;
        case 0xca: case 0xcb:
            v->type = MP_FLOAT;
            v->p = p;
            v->n = width;
            break;
        case 0xcc: case 0xcd: case 0xce: case 0xcf:
            v->type = MP_UINT;
            v->u = mp_big_endian(p, width);
            break;
        case 0xd0: case 0xd1: case 0xd2: case 0xd3:
            mp_set_signed(v, p, width);
            break;
        case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8:
            v->type = MP_EXT;
            v->n = 1u << (t - 0xd4);
            body = (size_t)v->n + 1;
            break;
        case 0xd9: case 0xda: case 0xdb:
            v->type = MP_STR;
            v->n = (uint32_t)mp_big_endian(p, width);
            body = v->n;
            break;
        case 0xdc: case 0xdd:
            v->type = MP_ARRAY;
            v->n = (uint32_t)mp_big_endian(p, width);
            break;
        default: /* 0xde, 0xdf */
            v->type = MP_MAP;
            v->n = (uint32_t)mp_big_endian(p, width);
            break;
        }
    }

    p += width;
    left -= width;
    if (left < body)
        return false;
    if (v->type == MP_STR || v->type == MP_BIN || v->type == MP_EXT)
        v->p = p;
    if (v->type == MP_ARRAY && v->n > left)
        return false;
    if (v->type == MP_MAP && v->n > left / 2)
        return false;
    r->pos = p + body;
    return true;
}

/* Passes over one whole value; false when it is cut short or nested deeper
 * than MP_MAX_DEPTH. Work is bounded by the bytes that are left. */
static inline bool mp_skip(struct mp_reader *r)
{
    uint64_t pending[MP_MAX_DEPTH + 1] = {1}; /* values still to come */
    const uint8_t *start = r->pos;
    unsigned depth = 0;
    struct mp_value v;

    for (;;) {
        while (pending[depth] == 0) {
            if (depth == 0)
                return true;
            depth--;
        }
        pending[depth]--;
        if (!mp_read(r, &v))
            break;
        if (v.type != MP_ARRAY && v.type != MP_MAP)
            continue;
        if (depth == MP_MAX_DEPTH)
            break;
        pending[++depth] = v.type == MP_MAP ? (uint64_t)v.n * 2 : v.n;
    }
    r->pos = start;
    return false;
}

#endif

/* SPDX-License-Identifier: MIT */
#include "sealed.h"

/* A value of up to this many bits is read with one unaligned 64-bit load. */
#define ONE_LOAD 57

/* A width that can be unpacked many at a time is taken where it wastes but a
 * bit: scans spend their time there. */
static uint8_t bits_for(uint64_t range)
{
    uint8_t bits = range ? (uint8_t)(64 - __builtin_clzll(range)) : 0;

    if (bits == 7 || bits == 15 || bits == 31)
        bits++;
    return bits > ONE_LOAD ? 64 : bits;
}

static size_t column_bytes(uint8_t bits, uint32_t n)
{
    return ((size_t)bits * n + 7) / 8;
}

/* Eight rows of a cache line's worth of columns are read together. */
#define TILE 8

/* Packs v[0 .. n) - lo, lowest bits first; bits is not 0. */
static void pack_column(uint8_t *out, const uint64_t *v, uint32_t n,
                        uint64_t lo, unsigned bits)
{
    uint64_t word = 0;
    unsigned fill = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t d = v[i] - lo;

        word |= d << fill;
        if (fill + bits < 64) {
            fill += bits;
            continue;
        }
        memcpy(out, &word, sizeof(word));
        out += sizeof(word);
        word = fill ? d >> (64 - fill) : 0;
        fill = fill + bits - 64;
    }
    memcpy(out, &word, (fill + 7) / 8);
}

static void pack_columns(struct jc_sealed *s, const uint64_t *rows, uint32_t n,
                         const uint64_t lo[JC_COLS])
{
    static uint64_t tile[TILE][JC_SEALED_ROWS];

    for (unsigned from = 0; from < JC_COLS; from += TILE) {
        unsigned cols = JC_COLS - from < TILE ? JC_COLS - from : TILE;

        for (uint32_t i = 0; i < n; i++)
            for (unsigned c = 0; c < cols; c++)
                tile[c][i] = rows[(size_t)i * JC_COLS + from + c];
        for (unsigned c = 0; c < cols; c++)
            if (s->bits[from + c])
                pack_column(s->data + s->at[from + c], tile[c], n,
                            lo[from + c], s->bits[from + c]);
    }
}

struct jc_sealed *jc_sealed_new(const uint64_t *rows, uint32_t n,
                                const uint64_t lo[JC_COLS],
                                const uint64_t hi[JC_COLS],
                                const struct jc_heap *heap)
{
    static uint64_t serial;
    struct jc_sealed head = {.serial = serial + 1}, *s;
    size_t bytes = 0;

    serial++;
    for (unsigned col = 0; col < JC_COLS; col++) {
        head.bits[col] = bits_for(hi[col] - lo[col]);
        head.at[col] = (uint32_t)bytes;
        bytes += column_bytes(head.bits[col], n);
    }
    bytes += sizeof(uint64_t); /* loads reach over the end */
    head.heap_at = (uint32_t)bytes;
    head.heap_used = (uint32_t)heap->used;
    head.heap_count = heap->count;
    s = jc_host.alloc(sizeof(*s) + bytes + jc_heap_packed_max(heap));
    *s = head;
    memset(s->data, 0, bytes);
    pack_columns(s, rows, n, lo);
    s->heap_size = (uint32_t)jc_heap_pack(heap, s->data + bytes,
                                          jc_heap_packed_max(heap));
    return jc_host.resize(s, sizeof(*s) + bytes + s->heap_size);
}

uint64_t jc_sealed_code(const struct jc_sealed *s, uint64_t lo, unsigned col,
                        uint32_t at)
{
    unsigned bits = s->bits[col];
    size_t bit = (size_t)at * bits;
    uint64_t v;

    memcpy(&v, s->data + s->at[col] + bit / 8, sizeof(v));
    if (bits == 64)
        return lo + v;
    return lo + (v >> (bit & 7) & ((UINT64_C(1) << bits) - 1));
}

/* With a constant number of bits the shifts are constant too. */
static inline __attribute__((always_inline))
void unpack(const uint8_t *data, const unsigned bits, uint64_t lo, uint32_t n,
            uint64_t *restrict out)
{
    const uint64_t mask = bits == 64 ? UINT64_MAX
                                     : (UINT64_C(1) << bits) - 1;
    uint32_t i = 0;
    uint64_t v;

    for (; i + 8 <= n; i += 8, data += bits) {
        for (unsigned j = 0; j < 8; j++) {
            memcpy(&v, data + j * bits / 8, sizeof(v));
            out[i + j] = lo + (v >> (j * bits & 7) & mask);
        }
    }
    for (unsigned j = 0; i + j < n; j++) {
        memcpy(&v, data + j * bits / 8, sizeof(v));
        out[i + j] = lo + (v >> (j * bits & 7) & mask);
    }
}

static void unpack_16(const uint8_t *data, uint64_t lo, uint32_t n,
                      uint64_t *restrict out)
{
    for (uint32_t i = 0; i < n; i++) {
        uint16_t v;

        memcpy(&v, data + (size_t)i * sizeof(v), sizeof(v));
        out[i] = lo + v;
    }
}

static void unpack_32(const uint8_t *data, uint64_t lo, uint32_t n,
                      uint64_t *restrict out)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t v;

        memcpy(&v, data + (size_t)i * sizeof(v), sizeof(v));
        out[i] = lo + v;
    }
}

void jc_sealed_part(const struct jc_sealed *s, uint64_t lo, unsigned col,
                    uint32_t from, uint32_t n, uint64_t *restrict out)
{
    const uint8_t *data = s->data + s->at[col] +
                          (size_t)(from / 8) * s->bits[col];

#define CASE(bits) case bits: unpack(data, bits, lo, n, out); break
    switch (s->bits[col]) {
    case 0:
        for (uint32_t i = 0; i < n; i++)
            out[i] = lo;
        break;
    case 8:
        for (uint32_t i = 0; i < n; i++)
            out[i] = lo + data[i];
        break;
    case 16:
        unpack_16(data, lo, n, out);
        break;
    case 32:
        unpack_32(data, lo, n, out);
        break;
    CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(9); CASE(10);
    CASE(11); CASE(12); CASE(13); CASE(14); CASE(17); CASE(18); CASE(19);
    CASE(20); CASE(21); CASE(22); CASE(23); CASE(24);
    default:
        unpack(data, s->bits[col], lo, n, out);
    }
#undef CASE
}

struct jc_slice jc_sealed_string(const struct jc_sealed *s, uint32_t i)
{
    static struct jc_heap heap; /* of the block asked for last */
    static uint64_t serial;

    if (serial != s->serial) {
        jc_heap_unpack(&heap, s->data + s->heap_at, s->heap_size,
                       s->heap_used, s->heap_count);
        serial = s->serial;
    }
    return jc_heap_get(&heap, i);
}

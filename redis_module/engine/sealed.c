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

static void pack_column(uint8_t *out, const uint64_t *rows, unsigned col,
                        uint32_t n, uint64_t lo, uint8_t bits)
{
    size_t at = 0;

    for (uint32_t i = 0; i < n && bits; i++, at += bits) {
        uint64_t v = rows[(size_t)i * JC_COLS + col] - lo, have;

        memcpy(&have, out + at / 8, sizeof(have));
        have |= bits == 64 ? v : v << (at & 7);
        memcpy(out + at / 8, &have, sizeof(have));
    }
}

struct jc_sealed *jc_sealed_new(const uint64_t *rows, uint32_t n,
                                const uint64_t lo[JC_COLS],
                                const uint64_t hi[JC_COLS],
                                const struct jc_heap *heap)
{
    static uint64_t serial;
    struct jc_sealed head = {.serial = ++serial}, *s;
    size_t bytes = 0;

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
    for (unsigned col = 0; col < JC_COLS; col++)
        pack_column(s->data + s->at[col], rows, col, n, lo[col],
                    s->bits[col]);
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

void jc_sealed_column(const struct jc_sealed *s, uint64_t lo, unsigned col,
                      uint32_t n, uint64_t *restrict out)
{
    const uint8_t *data = s->data + s->at[col];
    unsigned bits = s->bits[col];
    uint64_t mask = (UINT64_C(1) << (bits & 63)) - 1;

    if (!bits) {
        for (uint32_t i = 0; i < n; i++)
            out[i] = lo;
        return;
    }
    if (bits == 8) {
        for (uint32_t i = 0; i < n; i++)
            out[i] = lo + data[i];
        return;
    }
    if (bits == 16) {
        unpack_16(data, lo, n, out);
        return;
    }
    if (bits == 32) {
        unpack_32(data, lo, n, out);
        return;
    }
    if (bits == 64)
        mask = UINT64_MAX;
    for (uint32_t i = 0, bit = 0; i < n; i++, bit += bits) {
        uint64_t v;

        memcpy(&v, data + bit / 8, sizeof(v));
        out[i] = lo + (v >> (bit & 7) & mask);
    }
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

/* SPDX-License-Identifier: MIT */
/*
 * A block's rows packed: per column the difference to the smallest code in as
 * many bits as the largest needs, and the heap compressed. Any code can be read
 * by itself; only strings of the heap need it unpacked.
 */
#ifndef SLURMJCD_SEALED_H
#define SLURMJCD_SEALED_H

#include "columns.h"
#include "heap.h"

#define JC_SEALED_ROWS 1280 /* at most */

struct jc_sealed {
    uint64_t serial;        /* no two share it: names unpacked heaps */
    uint8_t bits[JC_COLS];
    uint32_t at[JC_COLS];   /* byte of data where a column starts */
    uint32_t heap_at, heap_size; /* compressed */
    uint32_t heap_used, heap_count; /* unpacked */
    uint8_t data[];
};

/* Packs rows (row by row, JC_COLS codes each), whose codes lie in lo..hi. */
struct jc_sealed *jc_sealed_new(const uint64_t *rows, uint32_t n,
                                const uint64_t lo[JC_COLS],
                                const uint64_t hi[JC_COLS],
                                const struct jc_heap *heap);

uint64_t jc_sealed_code(const struct jc_sealed *s, uint64_t lo, unsigned col,
                        uint32_t at);

/* n codes of a column from one on, which must be a multiple of 8. */
void jc_sealed_part(const struct jc_sealed *s, uint64_t lo, unsigned col,
                    uint32_t from, uint32_t n, uint64_t *out);

/* String i of the heap; good until another block's heap is asked for. */
struct jc_slice jc_sealed_string(const struct jc_sealed *s, uint32_t i);

#endif

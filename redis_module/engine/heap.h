/* SPDX-License-Identifier: MIT */
/*
 * Strings of a block that are not worth a place in the segment's dictionary:
 * one behind the other while the block is open, compressed once it is sealed.
 */
#ifndef SLURMJCD_HEAP_H
#define SLURMJCD_HEAP_H

#include <stdbool.h>

#include "host.h"
#include "record.h"

struct jc_heap {
    uint8_t *bytes;  /* per string: 4 bytes of length, then the string */
    size_t used;
    size_t room;
    uint32_t *at;    /* offset of string i */
    uint32_t count;
    uint32_t at_room;
};

void jc_heap_free(struct jc_heap *h);

/* Adds a string; its place, from 0. */
uint32_t jc_heap_add(struct jc_heap *h, struct jc_slice s);

struct jc_slice jc_heap_get(const struct jc_heap *h, uint32_t i);

/* Bytes that packing may need at most. */
size_t jc_heap_packed_max(const struct jc_heap *h);

/* Packs into out; bytes written. */
size_t jc_heap_pack(const struct jc_heap *h, void *out, size_t room);

/* Fills an empty h from what jc_heap_pack wrote: count strings in used bytes. */
void jc_heap_unpack(struct jc_heap *h, const void *packed, size_t size,
                    size_t used, uint32_t count);

size_t jc_heap_bytes(const struct jc_heap *h);

#endif

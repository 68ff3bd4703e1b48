/* SPDX-License-Identifier: MIT */
#include "heap.h"

#include <stdlib.h>
#include <zstd.h>

#define LEVEL 1

void jc_heap_free(struct jc_heap *h)
{
    if (h->bytes)
        jc_host.free(h->bytes);
    if (h->at)
        jc_host.free(h->at);
    *h = (struct jc_heap){0};
}

static void note_place(struct jc_heap *h, size_t at)
{
    if (h->count == h->at_room) {
        h->at_room = h->at_room ? h->at_room * 2 : 4;
        h->at = jc_host.resize(h->at, h->at_room * sizeof(*h->at));
    }
    h->at[h->count++] = (uint32_t)at;
}

uint32_t jc_heap_add(struct jc_heap *h, struct jc_slice s)
{
    size_t need = h->used + sizeof(s.n) + s.n;

    if (need > h->room) {
        h->room = need + need / 2;
        h->bytes = jc_host.resize(h->bytes, h->room);
    }
    note_place(h, h->used);
    memcpy(h->bytes + h->used, &s.n, sizeof(s.n));
    if (s.n)
        memcpy(h->bytes + h->used + sizeof(s.n), s.p, s.n);
    h->used = need;
    return h->count - 1;
}

struct jc_slice jc_heap_get(const struct jc_heap *h, uint32_t i)
{
    const uint8_t *p = h->bytes + h->at[i];
    struct jc_slice s;

    memcpy(&s.n, p, sizeof(s.n));
    s.p = (const char *)p + sizeof(s.n);
    return s;
}

/* Contexts are kept: making one costs more than a block. */
static ZSTD_CCtx *packer(void)
{
    static ZSTD_CCtx *ctx;

    if (!ctx && !(ctx = ZSTD_createCCtx()))
        abort(); /* as the allocators do when memory is gone */
    return ctx;
}

static ZSTD_DCtx *unpacker(void)
{
    static ZSTD_DCtx *ctx;

    if (!ctx && !(ctx = ZSTD_createDCtx()))
        abort();
    return ctx;
}

size_t jc_heap_packed_max(const struct jc_heap *h)
{
    return h->used ? ZSTD_compressBound(h->used) : 0;
}

size_t jc_heap_pack(const struct jc_heap *h, void *out, size_t room)
{
    size_t n;

    if (!h->used)
        return 0;
    n = ZSTD_compressCCtx(packer(), out, room, h->bytes, h->used, LEVEL);
    if (ZSTD_isError(n))
        abort(); /* only for want of memory: room was enough */
    return n;
}

void jc_heap_unpack(struct jc_heap *h, const void *packed, size_t size,
                    size_t used, uint32_t count)
{
    if (used > h->room) {
        h->bytes = jc_host.resize(h->bytes, used);
        h->room = used;
    }
    h->used = used;
    h->count = 0;
    if (used && ZSTD_decompressDCtx(unpacker(), h->bytes, used, packed,
                                    size) != used)
        abort(); /* our own memory was overwritten */
    for (size_t at = 0; h->count < count;) {
        uint32_t n;

        note_place(h, at);
        memcpy(&n, h->bytes + at, sizeof(n));
        at += sizeof(n) + n;
    }
}

size_t jc_heap_bytes(const struct jc_heap *h)
{
    return jc_size_of(h->bytes) + jc_size_of(h->at);
}

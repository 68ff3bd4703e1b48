/* SPDX-License-Identifier: MIT */
#include "idindex.h"

#include <string.h>

#include "hash.h"

#define PART_BITS 6

_Static_assert(1 << PART_BITS == JC_IDINDEX_PARTS, "parts and bits agree");

static uint32_t part_of(uint32_t hash)
{
    return hash >> (32 - PART_BITS);
}

/* Where a hash belongs in a part of so many slots: any number of them. */
static uint32_t home_of(uint32_t hash, uint32_t slots)
{
    return (uint32_t)((uint64_t)(hash << PART_BITS) * slots >> 32);
}

void jc_idindex_free(struct jc_idindex *x)
{
    for (unsigned i = 0; i < JC_IDINDEX_PARTS; i++)
        if (x->part[i].slot)
            jc_host.free(x->part[i].slot);
    memset(x, 0, sizeof(*x));
}

static void place(struct jc_idslot *slot, uint32_t slots, struct jc_idslot s)
{
    uint32_t at = home_of(jc_hash_id(s.id), slots);

    while (slot[at].block)
        at = at + 1 == slots ? 0 : at + 1;
    slot[at] = s;
}

static void grow(struct jc_idindex *x, uint32_t p)
{
    uint32_t old = x->part[p].slots, slots = old + old / 2 + 4;
    struct jc_idslot *slot = jc_host.alloc(slots * sizeof(*slot));

    memset(slot, 0, slots * sizeof(*slot));
    for (uint32_t i = 0; i < old; i++)
        if (x->part[p].slot[i].block)
            place(slot, slots, x->part[p].slot[i]);
    if (x->part[p].slot)
        jc_host.free(x->part[p].slot);
    x->part[p].slot = slot;
    x->part[p].slots = slots;
}

int jc_idindex_next(const struct jc_idindex *x, uint32_t id, uint32_t *state,
                    uint32_t *block)
{
    uint32_t hash = jc_hash_id(id), p = part_of(hash);
    uint32_t slots = x->part[p].slots, home;

    if (!slots)
        return 0;
    home = home_of(hash, slots);
    while (*state < slots) {
        uint32_t at = home + *state;
        const struct jc_idslot *s;

        s = &x->part[p].slot[at >= slots ? at - slots : at];
        if (!s->block)
            return 0;
        (*state)++;
        if (s->id == id) {
            *block = s->block - 1;
            return 1;
        }
    }
    return 0;
}

void jc_idindex_expect(const struct jc_idindex *x, uint32_t id)
{
    uint32_t hash = jc_hash_id(id), p = part_of(hash);

    if (x->part[p].slots)
        __builtin_prefetch(
            &x->part[p].slot[home_of(hash, x->part[p].slots)]);
}

void jc_idindex_add(struct jc_idindex *x, uint32_t id, uint32_t block)
{
    uint32_t state = 0, have, p = part_of(jc_hash_id(id));

    while (jc_idindex_next(x, id, &state, &have))
        if (have == block)
            return;
    if ((uint64_t)(x->part[p].used + 1) * 5 > (uint64_t)x->part[p].slots * 4)
        grow(x, p);
    place(x->part[p].slot, x->part[p].slots,
          (struct jc_idslot){id, block + 1});
    x->part[p].used++;
}

void jc_idindex_remove(struct jc_idindex *x, uint32_t id, uint32_t block)
{
    uint32_t hash = jc_hash_id(id), p = part_of(hash);
    uint32_t slots = x->part[p].slots, at, next;
    struct jc_idslot *slot = x->part[p].slot;

    if (!slots)
        return;
    at = home_of(hash, slots);
    while (slot[at].block && (slot[at].id != id || slot[at].block != block + 1))
        at = at + 1 == slots ? 0 : at + 1;
    if (!slot[at].block)
        return;
    /* close the gap: move back whatever would not be found across it */
    for (next = at;;) {
        uint32_t home;

        next = next + 1 == slots ? 0 : next + 1;
        if (!slot[next].block)
            break;
        home = home_of(jc_hash_id(slot[next].id), slots);
        if (at <= next ? at < home && home <= next
                       : at < home || home <= next)
            continue;
        slot[at] = slot[next];
        at = next;
    }
    slot[at].block = 0;
    x->part[p].used--;
}

size_t jc_idindex_bytes(const struct jc_idindex *x)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < JC_IDINDEX_PARTS; i++)
        bytes += jc_size_of(x->part[i].slot);
    return bytes;
}

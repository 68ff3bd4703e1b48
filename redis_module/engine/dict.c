/* SPDX-License-Identifier: MIT */
#include "dict.h"

#define CHUNK_MAX UINT32_C(65536) /* offsets have 16 bits */
#define CHUNK_MIN UINT32_C(64)
#define CHUNKS_MAX UINT32_C(65535)
#define IDS_MAX UINT32_C(0xfffffe) /* id + 1 has 24 bits in a slot */
#define SLOT_ID UINT32_C(0xffffff)
#define AT_ONCE 4096 /* ids that move to a larger table in one go */
#define A_STEP 8     /* and how many with each string, when there are more */

void jc_dict_free(struct jc_dict *d)
{
    for (uint32_t i = 0; i < d->chunks; i++)
        jc_host.free(d->chunk[i]);
    if (d->chunk)
        jc_host.free(d->chunk);
    if (d->ref)
        jc_host.free(d->ref);
    if (d->slot)
        jc_host.free(d->slot);
    if (d->old)
        jc_host.free(d->old);
    *d = (struct jc_dict){0};
}

/* Lengths stand before the bytes, seven bits a byte, lowest first. */
static uint32_t length_bytes(uint32_t n)
{
    uint32_t bytes = 1;

    while (n >>= 7)
        bytes++;
    return bytes;
}

struct jc_slice jc_dict_get(const struct jc_dict *d, uint32_t id)
{
    const uint8_t *p = d->chunk[d->ref[id] >> 16] + (d->ref[id] & 0xffff);
    uint32_t n = *p & 0x7f;

    for (unsigned shift = 7; *p++ & 0x80; shift += 7)
        n |= (uint32_t)(*p & 0x7f) << shift;
    return (struct jc_slice){(const char *)p, n};
}

static bool holds(const struct jc_dict *d, uint32_t id, struct jc_slice s)
{
    struct jc_slice have = jc_dict_get(d, id);

    return have.n == s.n && !memcmp(have.p, s.p, s.n);
}

bool jc_dict_is_last(const struct jc_dict *d, struct jc_slice s)
{
    return d->count && holds(d, d->last, s);
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 56) << 24;
}

/* The slot of s or the free one it would take. */
static uint32_t *slot_of(const struct jc_dict *d, uint32_t *slot,
                         uint32_t slots, struct jc_slice s, uint64_t hash)
{
    uint32_t mask = slots - 1, at = (uint32_t)hash & mask;
    uint32_t tag = tag_of(hash);

    for (; slot[at]; at = (at + 1) & mask)
        if (((slot[at] ^ tag) & ~SLOT_ID) == 0 &&
            holds(d, (slot[at] & SLOT_ID) - 1, s))
            break;
    return &slot[at];
}

uint32_t jc_dict_find_hashed(const struct jc_dict *d, struct jc_slice s,
                             uint64_t hash)
{
    uint32_t slot;

    if (!d->slots)
        return JC_DICT_NONE;
    slot = *slot_of(d, d->slot, d->slots, s, hash);
    if (!slot && d->old)
        slot = *slot_of(d, d->old, d->olds, s, hash);
    return slot ? (slot & SLOT_ID) - 1 : JC_DICT_NONE;
}

uint32_t jc_dict_find(const struct jc_dict *d, struct jc_slice s)
{
    return jc_dict_find_hashed(d, s, jc_dict_hash(s));
}

uint32_t jc_dict_alike(const struct jc_dict *d, struct jc_slice s,
                       uint32_t *state)
{
    uint64_t hash = jc_dict_hash(s);
    uint32_t tag = tag_of(hash), slot;

    while (*state < d->slots) {
        slot = d->slot[((uint32_t)hash + *state) & (d->slots - 1)];
        *state = slot ? *state + 1 : d->slots;
        if (slot && ((slot ^ tag) & ~SLOT_ID) == 0)
            return (slot & SLOT_ID) - 1;
    }
    while (d->old && *state - d->slots < d->olds) {
        uint32_t at = (uint32_t)hash + (*state - d->slots);

        slot = d->old[at & (d->olds - 1)];
        if (!slot)
            break;
        ++*state;
        if (((slot ^ tag) & ~SLOT_ID) == 0 && (slot & SLOT_ID) > d->moved)
            return (slot & SLOT_ID) - 1;
    }
    return JC_DICT_NONE;
}

/* Moves up to n ids into the larger table. */
static void move(struct jc_dict *d, uint32_t n, uint32_t below)
{
    uint32_t mask = d->slots - 1;

    for (; n > 0 && d->moved < below; n--) {
        uint32_t id = d->moved++;
        uint64_t hash = jc_dict_hash(jc_dict_get(d, id));
        uint32_t at = (uint32_t)hash & mask;

        while (d->slot[at])
            at = (at + 1) & mask;
        d->slot[at] = tag_of(hash) | (id + 1);
    }
    if (d->moved < below)
        return;
    if (d->old)
        jc_host.free(d->old);
    d->old = NULL;
}

static void grow_slots(struct jc_dict *d)
{
    if (d->old)
        move(d, UINT32_MAX, d->to_move);
    d->old = d->slot;
    d->olds = d->slots;
    d->slots = d->slots ? d->slots * 2 : 8;
    d->slot = jc_host.alloc(d->slots * sizeof(*d->slot));
    memset(d->slot, 0, d->slots * sizeof(*d->slot));
    d->moved = 0;
    d->to_move = d->count;
    move(d, AT_ONCE, d->to_move);
}

/* Room for n bytes in the last chunk; chunks grow with the dictionary, so that
 * a column with one value costs 64 bytes. A large string gets its own. */
static void make_room(struct jc_dict *d, uint32_t n)
{
    uint32_t room = CHUNK_MIN;

    if (d->chunks && d->room - d->used >= n)
        return;
    for (uint32_t i = 0; i < d->chunks && room < CHUNK_MAX; i++)
        room *= 2;
    if (room < n)
        room = n;
    d->chunk = jc_host.resize(d->chunk, (d->chunks + 1) * sizeof(*d->chunk));
    d->chunk[d->chunks++] = jc_host.alloc(room);
    d->room = room;
    d->used = 0;
}

uint32_t jc_dict_add(struct jc_dict *d, struct jc_slice s)
{
    if (jc_dict_is_last(d, s))
        return d->last;
    return jc_dict_add_hashed(d, s, jc_dict_hash(s));
}

uint32_t jc_dict_add_hashed(struct jc_dict *d, struct jc_slice s,
                            uint64_t hash)
{
    uint32_t *slot, n = length_bytes(s.n) + s.n;
    uint32_t have = jc_dict_find_hashed(d, s, hash);
    uint8_t *p;

    if (have != JC_DICT_NONE)
        return d->last = have;
    if (d->old)
        move(d, A_STEP, d->to_move);
    if ((uint64_t)d->count * 4 >= (uint64_t)d->slots * 3)
        grow_slots(d);
    if (d->count >= IDS_MAX || d->chunks >= CHUNKS_MAX)
        return JC_DICT_NONE;
    slot = slot_of(d, d->slot, d->slots, s, hash);
    make_room(d, n);
    if (d->used > 0xffff) { /* behind a large string: start a fresh chunk */
        d->room = d->used;
        make_room(d, n);
    }
    if (d->count == d->refs) {
        d->refs = d->refs ? d->refs + d->refs / 2 : 4;
        d->ref = jc_host.resize(d->ref, d->refs * sizeof(*d->ref));
    }
    d->ref[d->count] = (d->chunks - 1) << 16 | d->used;
    p = d->chunk[d->chunks - 1] + d->used;
    d->used += n;
    for (n = s.n; n >= 0x80; n >>= 7)
        *p++ = (uint8_t)(n | 0x80);
    *p++ = (uint8_t)n;
    memcpy(p, s.p, s.n);
    d->last = d->count++;
    *slot = tag_of(hash) | d->count;
    return d->last;
}

bool jc_dict_crowded(const struct jc_dict *d)
{
    return d->chunks > CHUNKS_MAX - CHUNKS_MAX / 10 ||
           d->count > IDS_MAX - IDS_MAX / 10;
}

size_t jc_dict_bytes(const struct jc_dict *d)
{
    size_t bytes = jc_size_of(d->chunk) + jc_size_of(d->ref) +
                   jc_size_of(d->slot) + jc_size_of(d->old);

    for (uint32_t i = 0; i < d->chunks; i++)
        bytes += jc_size_of(d->chunk[i]);
    return bytes;
}

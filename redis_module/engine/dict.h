/* SPDX-License-Identifier: MIT */
/*
 * The distinct strings of one column of one segment, numbered from 0 in order
 * of arrival. A string is never taken out again: the segment goes as a whole.
 */
#ifndef SLURMJCD_DICT_H
#define SLURMJCD_DICT_H

#include <stdbool.h>

#include "hash.h"
#include "host.h"
#include "record.h"

#define JC_DICT_NONE UINT32_MAX

struct jc_dict {
    uint8_t **chunk;   /* string bytes, each string behind its length */
    uint32_t chunks;
    uint32_t used;     /* bytes of the last chunk */
    uint32_t room;     /* bytes the last chunk has */
    uint32_t *ref;     /* id -> chunk << 16 | offset */
    uint32_t count;
    uint32_t refs;     /* room in ref */
    uint32_t *slot;    /* hash table: 8 bits of hash, 24 of id + 1 */
    uint32_t slots;    /* a power of two, or 0 */
    uint32_t *old;     /* the table before it grew, NULL when all has moved */
    uint32_t olds;
    uint32_t moved;    /* ids below it have moved to slot ... */
    uint32_t to_move;  /* ... of so many */
    uint32_t last;     /* id asked for last: neighbours are alike */
};

void jc_dict_free(struct jc_dict *d);

/* The hash of a string, the same for all dictionaries. */
static inline uint64_t jc_dict_hash(struct jc_slice s)
{
    return jc_hash_bytes(s.p, s.n, jc_host.hash_seed);
}

/* Fetches what looking for that hash needs first. */
static inline void jc_dict_expect(const struct jc_dict *d, uint64_t hash)
{
    if (d->slots)
        __builtin_prefetch(&d->slot[(uint32_t)hash & (d->slots - 1)]);
}

/* The id of s, JC_DICT_NONE when it is not there. O(1). */
uint32_t jc_dict_find(const struct jc_dict *d, struct jc_slice s);

/* The same, with its hash at hand. */
uint32_t jc_dict_find_hashed(const struct jc_dict *d, struct jc_slice s,
                             uint64_t hash);

/* Is s the string that was added last? */
bool jc_dict_is_last(const struct jc_dict *d, struct jc_slice s);

/* Walks the ids that may be s but for the case of letters (others among them):
 * *state starts at 0; JC_DICT_NONE at the end. */
uint32_t jc_dict_alike(const struct jc_dict *d, struct jc_slice s,
                       uint32_t *state);

/* The id of s, added if needed; JC_DICT_NONE when the dictionary is full. */
uint32_t jc_dict_add(struct jc_dict *d, struct jc_slice s);

/* The same, with its hash at hand. */
uint32_t jc_dict_add_hashed(struct jc_dict *d, struct jc_slice s,
                            uint64_t hash);

/* The string with that id, which must be below count. */
struct jc_slice jc_dict_get(const struct jc_dict *d, uint32_t id);

/* True when less than a tenth of the dictionary's address space is left. */
bool jc_dict_crowded(const struct jc_dict *d);

/* Bytes allocated for it, the struct itself not counted. */
size_t jc_dict_bytes(const struct jc_dict *d);

#endif

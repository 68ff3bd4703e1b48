/* SPDX-License-Identifier: MIT */
/* Sets of numbers as sorted, disjoint ranges. */
#ifndef SLURMJCD_RANGES_H
#define SLURMJCD_RANGES_H

#include <stdbool.h>

#include "host.h"

struct jc_range {
    uint64_t lo, hi; /* both included */
};

struct jc_ranges {
    struct jc_range *v;
    size_t n;
    size_t room;
};

void jc_ranges_free(struct jc_ranges *r);

/* Adds a range; jc_ranges_sort before asking. */
void jc_ranges_add(struct jc_ranges *r, uint64_t lo, uint64_t hi);
void jc_ranges_sort(struct jc_ranges *r);

/* Index of the first range whose hi is not below v; n if none. O(log n) */
size_t jc_ranges_from(const struct jc_ranges *r, uint64_t v);

static inline bool jc_ranges_have(const struct jc_ranges *r, uint64_t v)
{
    size_t i = jc_ranges_from(r, v);

    return i < r->n && r->v[i].lo <= v;
}

/* Does the set share a number with lo..hi? */
static inline bool jc_ranges_meet(const struct jc_ranges *r, uint64_t lo,
                                  uint64_t hi)
{
    size_t i = jc_ranges_from(r, lo);

    return i < r->n && r->v[i].lo <= hi;
}

/* Does one range hold all of lo..hi? */
static inline bool jc_ranges_cover(const struct jc_ranges *r, uint64_t lo,
                                   uint64_t hi)
{
    size_t i = jc_ranges_from(r, lo);

    return i < r->n && r->v[i].lo <= lo && r->v[i].hi >= hi;
}

#endif

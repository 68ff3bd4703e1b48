/* SPDX-License-Identifier: MIT */
#include "ranges.h"

#include <stdlib.h>

void jc_ranges_free(struct jc_ranges *r)
{
    if (r->v)
        jc_host.free(r->v);
    *r = (struct jc_ranges){0};
}

void jc_ranges_add(struct jc_ranges *r, uint64_t lo, uint64_t hi)
{
    if (r->n && lo && r->v[r->n - 1].hi == lo - 1) { /* 1,2,3: one range */
        r->v[r->n - 1].hi = hi;
        return;
    }
    if (r->n == r->room) {
        r->room = r->room ? r->room * 2 : 4;
        r->v = jc_host.resize(r->v, r->room * sizeof(*r->v));
    }
    r->v[r->n++] = (struct jc_range){lo, hi};
}

static int by_lo(const void *pa, const void *pb)
{
    const struct jc_range *a = pa, *b = pb;

    return (a->lo > b->lo) - (a->lo < b->lo);
}

static bool rising(const struct jc_ranges *r)
{
    for (size_t i = 1; i < r->n; i++)
        if (r->v[i].lo < r->v[i - 1].lo)
            return false;
    return true;
}

void jc_ranges_sort(struct jc_ranges *r)
{
    size_t kept = 0;

    if (r->n < 2)
        return;
    if (!rising(r))
        qsort(r->v, r->n, sizeof(*r->v), by_lo);
    for (size_t i = 1; i < r->n; i++) {
        struct jc_range *last = &r->v[kept];

        if (last->hi == UINT64_MAX || r->v[i].lo <= last->hi + 1) {
            if (r->v[i].hi > last->hi)
                last->hi = r->v[i].hi;
        } else {
            r->v[++kept] = r->v[i];
        }
    }
    r->n = kept + 1;
}

size_t jc_ranges_from(const struct jc_ranges *r, uint64_t v)
{
    size_t lo = 0, hi = r->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (r->v[mid].hi < v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* SPDX-License-Identifier: MIT */
/*
 * What the engine needs of the program around it. The module puts Redis'
 * allocator here, unit tests and fuzz targets use malloc. alloc and resize end
 * the program when memory is gone, as Redis' do; try_alloc returns NULL and is
 * for sizes that come from outside.
 */
#ifndef SLURMJCD_HOST_H
#define SLURMJCD_HOST_H

#include <stddef.h>
#include <stdint.h>

struct jc_host {
    void *(*alloc)(size_t bytes);
    void *(*try_alloc)(size_t bytes);
    void *(*resize)(void *p, size_t bytes);
    void (*free)(void *p);
    size_t (*size_of)(void *p); /* bytes the allocator spends on p */
    uint64_t hash_seed;         /* keys the hashes of strings users choose */
};

extern struct jc_host jc_host;

static inline size_t jc_size_of(void *p)
{
    return p ? jc_host.size_of(p) : 0;
}

#endif

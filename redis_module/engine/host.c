/* SPDX-License-Identifier: MIT */
#include "host.h"

#include <malloc.h>
#include <stdlib.h>

static void *libc_alloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);

    if (!p)
        abort();
    return p;
}

static void *libc_resize(void *p, size_t bytes)
{
    p = realloc(p, bytes ? bytes : 1);
    if (!p)
        abort();
    return p;
}

static size_t libc_size_of(void *p)
{
    return malloc_usable_size(p);
}

struct jc_host jc_host = {
    .alloc = libc_alloc,
    .try_alloc = malloc,
    .resize = libc_resize,
    .free = free,
    .size_of = libc_size_of,
    .hash_seed = UINT64_C(0x9e3779b97f4a7c15),
};

/* SPDX-License-Identifier: MIT */
#include "criteria_module.h"

#include <stdio.h>
#include <string.h>

/* not cplugin/criteria.h */
#include "../../redis_module/engine/criteria.h"

static struct jc_slice slice(const char *text)
{
    return (struct jc_slice){text, (uint32_t)strlen(text)};
}

bool module_reads(const char *name, const char *value, char *why, size_t n)
{
    struct jc_criteria criteria;
    bool ok;

    jc_criteria_init(&criteria);
    ok = jc_criteria_add(&criteria, slice(name), slice(value));
    if (!ok)
        snprintf(why, n, "%s", criteria.why);
    jc_criteria_free(&criteria);
    return ok;
}

/* SPDX-License-Identifier: MIT */
#include "criteria.h"

void jc_criteria_init(struct jc_criteria *c)
{
    memset(c, 0, sizeof(*c));
    c->limit = UINT64_MAX;
}

static void free_strings(struct jc_strings *s)
{
    for (size_t i = 0; i < s->n; i++)
        jc_host.free((char *)s->v[i].p);
    if (s->v)
        jc_host.free(s->v);
}

void jc_criteria_free(struct jc_criteria *c)
{
    for (size_t i = 0; i < c->members; i++)
        jc_ranges_free(&c->member[i].of);
    if (c->member)
        jc_host.free(c->member);
    jc_ranges_free(&c->jobs);
    jc_ranges_free(&c->exit);
    jc_nodelist_free(&c->nodes);
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        free_strings(&c->strings[col]);
    free_strings(&c->viewer_accounts);
    for (unsigned col = 0; col < JC_COLS; col++)
        jc_ranges_free(&c->numbers[col]);
    jc_criteria_init(c);
}

static size_t strings_bytes(const struct jc_strings *s)
{
    size_t bytes = jc_size_of(s->v);

    for (size_t i = 0; i < s->n; i++)
        bytes += jc_size_of((char *)s->v[i].p);
    return bytes;
}

size_t jc_criteria_bytes(const struct jc_criteria *c)
{
    size_t bytes = jc_size_of(c->member) + jc_size_of(c->jobs.v) +
                   jc_size_of(c->exit.v) + jc_nodelist_bytes(&c->nodes);

    for (size_t i = 0; i < c->members; i++)
        bytes += jc_size_of(c->member[i].of.v);
    for (unsigned col = 0; col < JC_COLS; col++)
        bytes += jc_size_of(c->numbers[col].v);
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        bytes += strings_bytes(&c->strings[col]);
    return bytes + strings_bytes(&c->viewer_accounts);
}

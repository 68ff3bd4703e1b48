/* SPDX-License-Identifier: MIT */
/* Criteria bound to a segment: its codes for strings, its blocks for ids. */
#include "filter.h"
#include "viewer.h"

/* Ids looked up one by one; with more of them blocks are scanned. */
#define LOOKUPS_MAX 4096

/* ---- strings: sacct lowers the words it is given, MySQL ignores case ---- */

static bool folds_case(unsigned col)
{
    return col == JC_FIELD_NAME || col == JC_FIELD_CLUSTER ||
           col == JC_FIELD_PARTITION || col == JC_FIELD_ACCOUNT ||
           col == JC_FIELD_QOS || col == JC_FIELD_WCKEY;
}

static bool same_folded(const char *a, const char *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (jc_lower(a[i]) != jc_lower(b[i]))
            return false;
    return true;
}

static bool equals_one(const struct jc_strings *want, struct jc_slice text)
{
    for (size_t i = 0; i < want->n; i++)
        if (want->v[i].n == text.n &&
            same_folded(want->v[i].p, text.p, text.n))
            return true;
    return false;
}

/* ---- binding ---- */

/* Columns whose strings are compared as a whole. */
static bool is_exact(unsigned col)
{
    return col != JC_FIELD_FEATURES;
}

/* Strings that differ only in case stand side by side in the dictionary. */
static bool bind_folded(struct jc_filter *f, const struct jc_segment *s,
                        unsigned col)
{
    const struct jc_strings *want = &f->criteria->strings[col];
    const struct jc_dict *dict = &s->dict[col];

    if (equals_one(want, (struct jc_slice){"", 0}))
        jc_ranges_add(&f->codes[col], 0, 0);
    for (size_t i = 0; i < want->n; i++) {
        uint32_t state = 0, id;

        while ((id = jc_dict_alike(dict, want->v[i], &state)) != JC_DICT_NONE)
            if (equals_one(&(struct jc_strings){&want->v[i], 1, 1},
                           jc_dict_get(dict, id)))
                jc_ranges_add(&f->codes[col], jc_code_dict(id),
                              jc_code_dict(id));
    }
    jc_ranges_sort(&f->codes[col]);
    return f->codes[col].n > 0;
}

static bool bind_strings(struct jc_filter *f, const struct jc_segment *s,
                         unsigned col)
{
    const struct jc_strings *want = &f->criteria->strings[col];

    for (size_t i = 0; i < want->n; i++) {
        uint32_t id;

        if (!want->v[i].n) /* "" is absent, or empty */
            jc_ranges_add(&f->codes[col], 0, 0);
        id = jc_dict_find(&s->dict[col], want->v[i]);
        if (id != JC_DICT_NONE)
            jc_ranges_add(&f->codes[col], jc_code_dict(id), jc_code_dict(id));
    }
    jc_ranges_sort(&f->codes[col]);
    return f->codes[col].n > 0;
}

/* Ids to look up, or more than LOOKUPS_MAX. */
static uint64_t lookups_of(const struct jc_criteria *c)
{
    uint64_t n = c->members;

    for (size_t i = 0; i < c->jobs.n && n <= LOOKUPS_MAX; i++)
        n += c->jobs.v[i].hi - c->jobs.v[i].lo + 1;
    return n;
}

static bool mark(struct jc_filter *f, const struct jc_segment *s, uint32_t id)
{
    uint32_t state = 0, block;
    bool found = false;

    if (id < s->lowest_id || id > s->highest_id)
        return false;
    while (jc_idindex_next(&s->index, id, &state, &block)) {
        f->candidate[block] = 1;
        found = true;
    }
    return found;
}

static bool bind_jobs(struct jc_filter *f, const struct jc_segment *s,
                      uint64_t *work)
{
    const struct jc_criteria *c = f->criteria;
    bool found = false;
    bool plain = jc_ranges_meet(&c->jobs, s->lowest_id, s->highest_id);

    for (size_t i = 0; i < c->members && !plain && !found; i++)
        found = c->member[i].id >= s->lowest_id &&
                c->member[i].id <= s->highest_id;
    if (!plain && !found)
        return false;
    if (lookups_of(c) > LOOKUPS_MAX)
        return true;
    f->candidate = jc_host.alloc(s->ids);
    memset(f->candidate, 0, s->ids);
    f->candidates = s->ids;
    *work += 32 * lookups_of(c) + s->ids / 64;
    found = false;
    for (size_t i = 0; i < c->jobs.n; i++)
        for (uint64_t id = c->jobs.v[i].lo; id <= c->jobs.v[i].hi; id++)
            found |= mark(f, s, (uint32_t)id);
    for (size_t i = 0; i < c->members; i++)
        found |= mark(f, s, c->member[i].id);
    return found;
}

/* States other than PENDING and RUNNING, which ask when a job ended. */
static bool asks_only_for_ended(const struct jc_criteria *c)
{
    return c->has_state && !c->state[0] && !c->state[1];
}

/* Only PENDING looks at a time, start, that clocks may have set behind end. */
int64_t jc_criteria_first_day(const struct jc_criteria *c)
{
    return c->state[0] ? 0 : jc_day_of(c->start);
}

int64_t jc_criteria_last_day(const struct jc_criteria *c)
{
    return asks_only_for_ended(c) && c->has_end ? jc_day_of(c->end) : INT64_MAX;
}

bool jc_filter_bind(struct jc_filter *f, const struct jc_criteria *c,
                    const struct jc_segment *s, uint64_t *work)
{
    *work += 64 * c->texts + c->members;
    jc_filter_free(f);
    f->criteria = c;
    f->serial = s->serial;
    if (s->day > jc_criteria_last_day(c))
        return false;
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        if (c->strings[col].n && is_exact(col) &&
            !(folds_case(col) ? bind_folded : bind_strings)(f, s, col))
            return false;
    if (c->has_viewer)
        jc_viewer_bind(c, s, &f->viewed);
    return !c->has_job || bind_jobs(f, s, work);
}

void jc_filter_free(struct jc_filter *f)
{
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++) {
        jc_ranges_free(&f->codes[col]);
        if (f->memo[col])
            jc_host.free(f->memo[col]);
    }
    jc_ranges_free(&f->viewed);
    if (f->candidate)
        jc_host.free(f->candidate);
    memset(f, 0, sizeof(*f));
}

size_t jc_filter_bytes(const struct jc_filter *f)
{
    size_t bytes = jc_size_of(f->candidate);

    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        bytes += jc_size_of(f->codes[col].v) + jc_size_of(f->memo[col]);
    return bytes + jc_size_of(f->viewed.v);
}

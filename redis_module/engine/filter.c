/* SPDX-License-Identifier: MIT */
/* Criteria evaluated on a block of the segment they are bound to. */
#include "filter.h"
#include "viewer.h"

enum { MEMO_UNKNOWN, MEMO_NO, MEMO_YES };

/* What every term gets: the block, and the rows that are left. */
struct eval {
    struct jc_filter *f;
    const struct jc_segment *s;
    const struct jc_block *b;
    uint8_t *match;
    uint64_t *work;
    uint64_t work_max;
    bool paused;
};

static bool none(const struct eval *e)
{
    memset(e->match, 0, e->b->rows);
    return false;
}

static void load(const struct eval *e, unsigned col, uint64_t *out)
{
    jc_block_column(e->b, col, out);
    *e->work += e->b->rows;
}

/* What finding rows in a set costs, as a long list is far from any cache. */
static uint64_t search_work(const struct jc_ranges *set, uint32_t rows)
{
    uint64_t steps = 0;

    for (size_t n = set->n; n > 16; n /= 2)
        steps += rows;
    return steps * 4;
}

/* Keeps rows whose code is in the set; false when none can be left. */
static bool keep_ranges(const struct eval *e, unsigned col,
                        const struct jc_ranges *set)
{
    uint64_t v[JC_BLOCK_ROWS], lo = e->b->lo[col], hi = e->b->hi[col];
    size_t first = jc_ranges_from(set, lo);

    if (!jc_ranges_meet(set, lo, hi))
        return none(e);
    if (jc_ranges_cover(set, lo, hi))
        return true;
    load(e, col, v);
    if (first + 1 == set->n || set->v[first + 1].lo > hi) {
        const struct jc_range r = set->v[first];

        for (uint32_t i = 0; i < e->b->rows; i++)
            e->match[i] &= v[i] - r.lo <= r.hi - r.lo;
    } else {
        for (uint32_t i = 0; i < e->b->rows; i++)
            if (e->match[i])
                e->match[i] = jc_ranges_have(set, v[i]);
        *e->work += search_work(set, e->b->rows);
    }
    return true;
}

static bool keep_range(const struct eval *e, unsigned col, uint64_t lo,
                       uint64_t hi)
{
    struct jc_range r = {lo, hi};

    return keep_ranges(e, col, &(struct jc_ranges){&r, 1, 1});
}

/* Does a feature expression hold every word? "" is an expression's absence. */
static bool holds_words(const struct eval *e, struct jc_slice text)
{
    const struct jc_strings *words =
        &e->f->criteria->strings[JC_FIELD_FEATURES];
    char *folded = jc_host.alloc((size_t)text.n + 1);
    bool ok = true;

    for (uint32_t i = 0; i < text.n; i++)
        folded[i] = jc_lower(text.p[i]);
    for (size_t i = 0; i < words->n && ok; i++) {
        struct jc_slice word = words->v[i];

        ok = word.n ? memmem(folded, text.n, word.p, word.n) != NULL : !text.n;
        *e->work += text.n;
    }
    jc_host.free(folded);
    return ok;
}

static bool verdict(const struct eval *e, unsigned col, uint64_t code)
{
    struct jc_slice text = {"", 0};

    *e->work += 64;
    if (code)
        text = jc_dict_get(&e->s->dict[col], (uint32_t)(code >> 1));
    if (col == JC_FIELD_NODES)
        return code && jc_nodelist_overlaps(&e->f->criteria->nodes, text,
                                            e->work);
    return holds_words(e, text);
}

/* Keeps rows by a verdict on their string, made once per dictionary id. A block
 * may have many of them, and one may take long: false with e->paused set when
 * the work reached its bound. Those made are kept for the next time. */
static bool keep_judged(struct eval *e, unsigned col)
{
    uint64_t v[JC_BLOCK_ROWS];
    struct jc_filter *f = e->f;
    uint32_t known = e->s->dict[col].count + 1;
    bool made = false;

    if (f->memos[col] < known) {
        f->memo[col] = jc_host.resize(f->memo[col], known);
        memset(f->memo[col] + f->memos[col], MEMO_UNKNOWN,
               known - f->memos[col]);
        f->memos[col] = known;
    }
    load(e, col, v);
    for (uint32_t i = 0; i < e->b->rows; i++) {
        uint8_t *memo = &f->memo[col][v[i] ? (v[i] >> 1) + 1 : 0];

        if (!e->match[i])
            continue;
        if (*memo == MEMO_UNKNOWN) {
            e->paused = made && *e->work >= e->work_max;
            if (e->paused)
                return false;
            *memo = verdict(e, col, v[i]) ? MEMO_YES : MEMO_NO;
            made = true;
        }
        e->match[i] = *memo == MEMO_YES;
    }
    return true;
}

static bool keep_exits(const struct eval *e)
{
    uint64_t v[JC_BLOCK_ROWS];

    load(e, JC_FIELD_EXIT_CODE, v);
    for (uint32_t i = 0; i < e->b->rows; i++)
        if (e->match[i])
            e->match[i] = v[i] && jc_ranges_have(&e->f->criteria->exit,
                                                 (v[i] - 1) & ~UINT64_C(0x80));
    return true;
}

/* ---- job ids ---- */

static bool is_member(const struct jc_criteria *c, uint64_t id_code,
                      uint64_t of_code, bool het)
{
    size_t lo = 0, hi = c->members;

    if (!id_code || !of_code)
        return false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (c->member[mid].id < id_code - 1)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < c->members && c->member[lo].id == id_code - 1; lo++)
        if (c->member[lo].het == het &&
            jc_ranges_have(&c->member[lo].of, of_code - 1))
            return true;
    return false;
}

static bool keep_jobs(const struct eval *e)
{
    const struct jc_criteria *c = e->f->criteria;
    uint64_t id[JC_BLOCK_ROWS], array[JC_BLOCK_ROWS], task[JC_BLOCK_ROWS];
    uint64_t het[JC_BLOCK_ROWS], part[JC_BLOCK_ROWS];

    if (e->f->candidate && e->b->id < e->f->candidates &&
        !e->f->candidate[e->b->id])
        return none(e);
    load(e, JC_FIELD_JOB_ID, id);
    load(e, JC_FIELD_ARRAY_JOB_ID, array);
    load(e, JC_FIELD_ARRAY_TASK_ID, task);
    load(e, JC_FIELD_HET_JOB_ID, het);
    load(e, JC_FIELD_HET_JOB_OFFSET, part);
    *e->work += search_work(&c->jobs, e->b->rows) + (c->members > 16) * 16 *
                                                        (uint64_t)e->b->rows;
    for (uint32_t i = 0; i < e->b->rows; i++) {
        if (!e->match[i])
            continue;
        e->match[i] =
            jc_ranges_have(&c->jobs, id[i]) ||
            (array[i] && jc_ranges_have(&c->jobs, array[i] - 1)) ||
            (het[i] && jc_ranges_have(&c->jobs, het[i] - 1)) ||
            is_member(c, array[i], task[i], false) ||
            is_member(c, het[i], part[i], true);
    }
    return true;
}

/* ---- window and state: see the table in docs/protocol.md ---- */

static bool keep_window(const struct eval *e)
{
    const struct jc_criteria *c = e->f->criteria;
    uint64_t before = c->has_end ? c->end : UINT64_MAX;

    if (!c->has_start && !c->has_end)
        return true;
    if (c->has_start &&
        !keep_range(e, JC_FIELD_END, c->start, UINT64_MAX))
        return false;
    if (!before)
        return none(e);
    if (c->has_job)
        return keep_range(e, JC_FIELD_SUBMIT, 0, before - 1);
    return keep_range(e, JC_FIELD_ELIGIBLE, 1, before - 1);
}

/* Was the job waiting (state 0) or running (state 1) inside the window? */
static bool was(const struct jc_criteria *c, unsigned state, uint64_t eligible,
                uint64_t start, uint64_t end)
{
    uint64_t before = c->has_end ? c->end : UINT64_MAX;

    if (!c->has_start && !c->has_end)
        return false;
    if (state == 0)
        return eligible && eligible < before &&
               c->start < (start ? start : end);
    return start && start < before && c->start < end;
}

static bool keep_states(const struct eval *e)
{
    const struct jc_criteria *c = e->f->criteria;
    uint64_t state[JC_BLOCK_ROWS], flags[JC_BLOCK_ROWS], end[JC_BLOCK_ROWS];
    uint64_t eligible[JC_BLOCK_ROWS], start[JC_BLOCK_ROWS];
    uint64_t last = c->has_end ? c->end : UINT64_MAX;
    bool times = c->state[0] || c->state[1];

    load(e, JC_FIELD_STATE, state);
    load(e, JC_COL_FLAGS, flags);
    load(e, JC_FIELD_END, end);
    if (times) {
        load(e, JC_FIELD_ELIGIBLE, eligible);
        load(e, JC_FIELD_START, start);
    }
    for (uint32_t i = 0; i < e->b->rows; i++) {
        bool ended_so = (state[i] > 1 && c->state[state[i]] && !flags[i]) ||
                        (flags[i] & c->flags);
        bool ok = ended_so && end[i] >= c->start && end[i] <= last;

        for (unsigned st = 0; st < 2 && times && !ok; st++)
            ok = c->state[st] && was(c, st, eligible[i], start[i], end[i]);
        e->match[i] &= ok;
    }
    return true;
}

/* ---- all of them ---- */

static bool keep_visible(const struct eval *e, uint64_t now)
{
    uint64_t ttl[JC_BLOCK_ROWS], end[JC_BLOCK_ROWS];

    if (!e->b->hi[JC_COL_TTL] ||
        (e->b->lo[JC_COL_TTL] &&
         e->b->lo[JC_FIELD_END] + e->b->lo[JC_COL_TTL] > now))
        return true;
    load(e, JC_COL_TTL, ttl);
    load(e, JC_FIELD_END, end);
    for (uint32_t i = 0; i < e->b->rows; i++)
        e->match[i] &= !ttl[i] || end[i] + ttl[i] > now;
    return true;
}

/* Sizes are allocations: a job that got no nodes has none, whatever it asked. */
static bool asks_for_size(const struct jc_criteria *c)
{
    return c->numbers[JC_FIELD_NODE_COUNT].n ||
           c->numbers[JC_FIELD_CPU_COUNT].n;
}

/* Each returns false when it has emptied match, or paused. */
static void keep_all(struct eval *e, uint64_t now)
{
    const struct jc_criteria *c = e->f->criteria;

    if (c->has_job && !keep_jobs(e))
        return;
    if (c->has_state ? !keep_states(e) : !keep_window(e))
        return;
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        if (e->f->codes[col].n && !keep_ranges(e, col, &e->f->codes[col]))
            return;
    if (asks_for_size(c) && !keep_range(e, JC_FIELD_NODES, 1, UINT64_MAX))
        return;
    for (unsigned col = 0; col < JC_COLS; col++)
        if (c->numbers[col].n && !keep_ranges(e, col, &c->numbers[col]))
            return;
    if (c->exit.n && !keep_exits(e))
        return;
    if (c->strings[JC_FIELD_FEATURES].n &&
        !keep_judged(e, JC_FIELD_FEATURES))
        return;
    if (c->nodes.runs && !keep_judged(e, JC_FIELD_NODES))
        return;
    if (c->has_viewer) {
        *e->work += 2 * (uint64_t)e->b->rows;
        jc_viewer_keep(c, &e->f->viewed, e->b, e->match);
    }
    keep_visible(e, now);
}

uint32_t jc_filter_block(struct jc_filter *f, const struct jc_segment *s,
                         const struct jc_block *b, uint64_t now,
                         uint8_t match[JC_BLOCK_ROWS], uint64_t *work,
                         uint64_t work_max)
{
    struct eval e = {f, s, b, match, work, work_max, false};
    uint32_t n = 0;

    memset(match, 1, b->rows);
    *work += 16;
    keep_all(&e, now);
    if (e.paused)
        return JC_FILTER_PAUSED;
    for (uint32_t i = 0; i < b->rows; i++)
        n += match[i];
    return n;
}

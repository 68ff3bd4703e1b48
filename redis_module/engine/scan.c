/* SPDX-License-Identifier: MIT */
#include "scan.h"

static const unsigned key_columns[5] = {
    JC_FIELD_END, JC_FIELD_JOB_ID, JC_FIELD_SUBMIT, JC_FIELD_START,
    JC_FIELD_RESTART_COUNT,
};

void jc_scan_init(struct jc_scan *q)
{
    memset(q, 0, sizeof(*q));
    jc_criteria_init(&q->criteria);
}

void jc_scan_start(struct jc_scan *q)
{
    q->day = jc_criteria_first_day(&q->criteria);
}

void jc_scan_free(struct jc_scan *q)
{
    jc_criteria_free(&q->criteria);
    jc_filter_free(&q->filter);
}

/* <0, 0, >0 as the key of the row comes before, is, or comes after q's. */
static int compare_key(const struct jc_scan *q, const struct jc_block *b,
                       uint32_t row)
{
    for (unsigned i = 0; i < 5; i++) {
        uint64_t code = jc_block_code(b, row, key_columns[i]);

        if (code != q->key[i])
            return code < q->key[i] ? -1 : 1;
    }
    return 0;
}

/* The segment changed: find the first row behind the ones passed. */
static void seek(struct jc_scan *q, const struct jc_segment *s)
{
    uint32_t lo = 0, hi = s->blocks, skip = q->ties;

    while (lo < hi) { /* the first block whose last row is not before key */
        uint32_t mid = lo + (hi - lo) / 2;

        if (compare_key(q, s->order[mid], s->order[mid]->rows - 1) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    q->block = lo;
    q->row = 0;
    for (; q->block < s->blocks; q->block++, q->row = 0) {
        const struct jc_block *b = s->order[q->block];

        for (; q->row < b->rows; q->row++) {
            int c = compare_key(q, b, q->row);

            if (c > 0 || (c == 0 && !skip))
                return;
            skip -= c == 0;
        }
    }
}

bool jc_scan_enter(struct jc_scan *q, const struct jc_segment *s)
{
    if (q->day != s->day) {
        q->inside = false;
        q->day = s->day;
    }
    if (q->filter.serial != s->serial &&
        !jc_filter_bind(&q->filter, &q->criteria, s, &q->work))
        return false;
    if (q->serial != s->serial || q->layout != s->layout) {
        q->matched_rows = 0;
        q->block = q->row = 0;
        if (q->inside)
            seek(q, s);
    }
    q->serial = s->serial;
    q->layout = s->layout;
    return true;
}

/* Notes that the row at q->block, q->row is passed. */
static void pass(struct jc_scan *q, const struct jc_block *b)
{
    bool tie = q->inside && compare_key(q, b, q->row) == 0;

    q->ties = tie ? q->ties + 1 : 1;
    for (unsigned i = 0; i < 5; i++)
        q->key[i] = jc_block_code(b, q->row, key_columns[i]);
    q->inside = true;
    q->row++;
}

/* Notes that no row of the block is left, so that a change of the segment does
 * not bring the scan back to rows it has looked at. */
static void pass_rest(struct jc_scan *q, const struct jc_block *b)
{
    q->row = b->rows - 1;
    pass(q, b);
}

enum jc_step jc_scan_next(struct jc_scan *q, const struct jc_segment *s,
                          uint64_t now, uint64_t work_max,
                          struct jc_place *place)
{
    for (; q->block < s->blocks; q->block++, q->row = 0) {
        const struct jc_block *b = s->order[q->block];
        uint32_t n;

        if (q->row >= b->rows)
            continue;
        if (q->matched_rows != b->rows || !q->row) {
            if (q->work >= work_max)
                return JC_STEP_PAUSE;
            n = jc_filter_block(&q->filter, s, b, now, q->match, &q->work,
                                work_max);
            if (n == JC_FILTER_PAUSED) {
                q->matched_rows = 0;
                return JC_STEP_PAUSE;
            }
            if (!n) {
                pass_rest(q, b);
                continue;
            }
            q->matched_rows = b->rows;
        }
        while (q->row < b->rows && !q->match[q->row])
            q->row++;
        if (q->row == b->rows) {
            pass_rest(q, b);
            continue;
        }
        *place = (struct jc_place){q->block, q->row};
        pass(q, b);
        q->given++;
        return JC_STEP_ROW;
    }
    return JC_STEP_END;
}

enum jc_step jc_scan_next_block(struct jc_scan *q, const struct jc_segment *s,
                                uint64_t now, uint64_t work_max,
                                const struct jc_block **block)
{
    for (; q->block < s->blocks; q->block++, q->row = 0) {
        const struct jc_block *b = s->order[q->block];
        uint32_t from = q->row, n;

        if (from >= b->rows)
            continue;
        if (q->work >= work_max)
            return JC_STEP_PAUSE;
        n = jc_filter_block(&q->filter, s, b, now, q->match, &q->work,
                            work_max);
        if (n == JC_FILTER_PAUSED)
            return JC_STEP_PAUSE;
        for (uint32_t i = 0; i < from; i++) { /* given before the change */
            n -= q->match[i];
            q->match[i] = 0;
        }
        pass_rest(q, b);
        q->matched_rows = 0;
        if (!n)
            continue;
        *block = b;
        return JC_STEP_ROW;
    }
    return JC_STEP_END;
}

void jc_scan_unread(struct jc_scan *q)
{
    q->row--;
    q->ties--;
    q->given--;
}

void jc_scan_leave(struct jc_scan *q)
{
    q->day++;
    q->inside = false;
    q->serial = 0;
    q->matched_rows = 0;
    jc_filter_free(&q->filter);
}

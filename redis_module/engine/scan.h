/* SPDX-License-Identifier: MIT */
/*
 * A query's way through the segments of a prefix, in order of completion. It
 * holds no pointer into a segment between calls, so segments may grow, vanish
 * or be replaced; it goes on behind the last row it gave.
 */
#ifndef SLURMJCD_SCAN_H
#define SLURMJCD_SCAN_H

#include "filter.h"

struct jc_scan {
    struct jc_criteria criteria;
    struct jc_filter filter;
    int64_t day;        /* the segment to go on in, or the next after it */
    bool inside;        /* a row of that segment was given or passed */
    uint64_t serial, layout; /* what block and row below are good for */
    uint32_t block, row;
    uint64_t key[5];    /* of the last row passed: end, job id, submit, … */
    uint32_t ties;      /* rows with that key passed so far */
    uint64_t given;     /* rows returned */
    uint64_t work;      /* rows looked at, for slicing */
    uint8_t match[JC_BLOCK_ROWS]; /* of that block ... */
    uint32_t matched_rows;        /* ... when it had so many rows, 0 = none */
};

enum jc_step {
    JC_STEP_ROW,   /* *place is the next matching row */
    JC_STEP_END,   /* this segment holds no more */
    JC_STEP_PAUSE, /* work reached the bound; call again */
};

void jc_scan_init(struct jc_scan *q); /* criteria are to be filled */
void jc_scan_start(struct jc_scan *q); /* they are */
void jc_scan_free(struct jc_scan *q);

/* True when the limit that was asked for is reached. */
static inline bool jc_scan_full(const struct jc_scan *q)
{
    return q->given >= q->criteria.limit;
}

/* Enters or re-enters segment s; false when nothing in it can match. Must be
 * called before jc_scan_next whenever other code may have run in between. */
bool jc_scan_enter(struct jc_scan *q, const struct jc_segment *s);

/* The next matching row of the segment that was entered. */
enum jc_step jc_scan_next(struct jc_scan *q, const struct jc_segment *s,
                          uint64_t now, uint64_t work_max,
                          struct jc_place *place);

/* The same for whole blocks: ROW gives a block with match set for its rows, at
 * least one of them 1; the scan stands behind it then. */
enum jc_step jc_scan_next_block(struct jc_scan *q, const struct jc_segment *s,
                                uint64_t now, uint64_t work_max,
                                const struct jc_block **block);

/* Steps back so that the last row given comes again. */
void jc_scan_unread(struct jc_scan *q);

/* Leaves the segment for the days after it. */
void jc_scan_leave(struct jc_scan *q);

#endif

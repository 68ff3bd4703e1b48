/* SPDX-License-Identifier: MIT */
/*
 * Criteria bound to one segment: strings turned into that segment's codes, job
 * ids into the blocks that can hold them. Evaluates a block at a time.
 */
#ifndef SLURMJCD_FILTER_H
#define SLURMJCD_FILTER_H

#include "criteria.h"
#include "segment.h"

struct jc_filter {
    const struct jc_criteria *criteria;
    uint64_t serial;                     /* of the segment, 0 = not bound */
    struct jc_ranges codes[JC_FIELD_COUNT]; /* of the string criteria */
    struct jc_ranges viewed;             /* codes of viewer_account */
    uint8_t *memo[JC_FIELD_COUNT];       /* verdict per dictionary id */
    uint32_t memos[JC_FIELD_COUNT];
    uint8_t *candidate;                  /* per block id; NULL = all */
    uint32_t candidates;                 /* ids covered; later ones are in */
};

/* False when no row of s can match: the segment is done. *work grows by a
 * measure of what it took. */
bool jc_filter_bind(struct jc_filter *f, const struct jc_criteria *c,
                    const struct jc_segment *s, uint64_t *work);
void jc_filter_free(struct jc_filter *f);
size_t jc_filter_bytes(const struct jc_filter *f);

/* Segments that end before this day hold nothing that c asks for. */
int64_t jc_criteria_first_day(const struct jc_criteria *c);

/* Nor do segments of later days than this. */
int64_t jc_criteria_last_day(const struct jc_criteria *c);

#define JC_FILTER_PAUSED UINT32_MAX

/*
 * Sets match[i] to 1 or 0 for every row of the block and returns how many are
 * 1. Rows past their time to live at epoch second now never match. *work grows
 * by a measure of the rows that were looked at. JC_FILTER_PAUSED: it reached
 * work_max with much of the block still to be looked at; call again.
 */
uint32_t jc_filter_block(struct jc_filter *f, const struct jc_segment *s,
                         const struct jc_block *b, uint64_t now,
                         uint8_t match[JC_BLOCK_ROWS], uint64_t *work,
                         uint64_t work_max);

#endif

/* SPDX-License-Identifier: MIT */
/* What segment.c and segment_put.c share; nobody else includes it. */
#ifndef SLURMJCD_SEGMENT_INSIDE_H
#define SLURMJCD_SEGMENT_INSIDE_H

#include "segment.h"

/* A new block at place at of the order. */
struct jc_block *jc_segment_add_block(struct jc_segment *s, uint32_t at);

/* Opens b for change, and seals what was not changed for longest. */
void jc_segment_heat(struct jc_segment *s, struct jc_block *b);

/* Packs the block at place at of the order with its late rows, in two if they
 * are many. */
void jc_segment_merge_late(struct jc_segment *s, uint32_t at);

/* Makes a row of that block known to the index. */
void jc_segment_index_row(struct jc_segment *s, const uint64_t row[JC_COLS],
                          uint32_t block_id);

/* Forgets every pair of the block; makes them anew. */
void jc_segment_unindex(struct jc_segment *s, const struct jc_block *b);
void jc_segment_index(struct jc_segment *s, const struct jc_block *b);

/* The last block whose first row does not come after row; 0 if none. */
uint32_t jc_segment_block_for(const struct jc_segment *s,
                              const uint64_t row[JC_COLS]);

/* The first row of b that comes after row. */
uint32_t jc_segment_row_after(const struct jc_segment *s,
                              const struct jc_block *b,
                              const uint64_t row[JC_COLS]);

/* <0, 0, >0; absent comes before empty. */
int jc_compare_slices(struct jc_slice a, struct jc_slice b);

#endif

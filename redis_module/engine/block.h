/* SPDX-License-Identifier: MIT */
/*
 * Up to JC_BLOCK_ROWS rows of a segment in order of completion, with the
 * smallest and largest code of each column (which may be wider than the rows
 * after one was taken out).
 */
#ifndef SLURMJCD_BLOCK_H
#define SLURMJCD_BLOCK_H

#include "columns.h"
#include "host.h"

#define JC_BLOCK_ROWS 1024

struct jc_block {
    uint32_t id;     /* place in the segment's table of blocks */
    uint32_t rows;
    uint32_t room;   /* rows that fit into open */
    uint64_t *open;  /* rows * JC_COLS codes, row by row */
    uint64_t lo[JC_COLS], hi[JC_COLS];
};

struct jc_block *jc_block_new(uint32_t id);
void jc_block_free(struct jc_block *b);

/* The codes of one column into out[0 .. rows). */
void jc_block_column(const struct jc_block *b, unsigned col,
                     uint64_t out[JC_BLOCK_ROWS]);

/* One code. */
uint64_t jc_block_code(const struct jc_block *b, uint32_t at, unsigned col);

/* All codes of one row. */
void jc_block_row(const struct jc_block *b, uint32_t at,
                  uint64_t row[JC_COLS]);

/* Puts row before the row at; the block must not be full. */
void jc_block_insert(struct jc_block *b, uint32_t at,
                     const uint64_t row[JC_COLS]);

void jc_block_remove(struct jc_block *b, uint32_t at);

/* Replaces one code. */
void jc_block_set(struct jc_block *b, uint32_t at, unsigned col,
                  uint64_t code);

/* Moves the rows from at on into the empty block to. */
void jc_block_split(struct jc_block *b, uint32_t at, struct jc_block *to);

size_t jc_block_bytes(const struct jc_block *b);

#endif

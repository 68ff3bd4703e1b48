/* SPDX-License-Identifier: MIT */
/*
 * Up to JC_BLOCK_ROWS rows of a segment in order of completion, with the
 * smallest and largest code of each column (which may be wider than the rows
 * after one was taken out). A block is open, to be changed, or sealed; a sealed
 * one takes some late rows beside what is packed, see late.h.
 */
#ifndef SLURMJCD_BLOCK_H
#define SLURMJCD_BLOCK_H

#include "late.h"
#include "sealed.h"

#define JC_BLOCK_ROWS JC_SEALED_ROWS
#define JC_BLOCK_FULL 1024    /* rows after which a block gets no more, but
                                 late ones */
#define JC_BLOCK_HEAP 1048576 /* bytes of strings that fill a block too */

struct jc_block {
    uint32_t id;     /* place in the segment's table of blocks */
    uint32_t rows;
    uint32_t room;   /* rows that fit into open */
    uint64_t *open;  /* rows * JC_COLS codes, row by row; NULL when sealed */
    struct jc_heap heap;      /* a code's string is code / 2 - 1; when sealed,
                                 of late rows: behind the packed strings */
    struct jc_sealed *sealed; /* NULL when open */
    struct jc_late *late;     /* rows added since it was sealed, or NULL */
    bool loose;               /* lo and hi may be wider than the rows */
    uint64_t lo[JC_COLS], hi[JC_COLS];
};

struct jc_block *jc_block_new(uint32_t id);
void jc_block_free(struct jc_block *b);

void jc_block_seal(struct jc_block *b);
void jc_block_open(struct jc_block *b);

static inline bool jc_block_full(const struct jc_block *b)
{
    return b->rows >= JC_BLOCK_FULL || b->heap.used >= JC_BLOCK_HEAP;
}

/* Has a sealed block room for a late row? */
static inline bool jc_block_takes_late(const struct jc_block *b)
{
    return b->rows < JC_BLOCK_ROWS && b->heap.used < JC_LATE_HEAP &&
           (!b->late || b->late->rows < JC_LATE_ROWS);
}

/* The codes of one column into out[0 .. rows). */
void jc_block_column(const struct jc_block *b, unsigned col,
                     uint64_t out[JC_BLOCK_ROWS]);

/* n codes of one column from a row on, which must be a multiple of 8. */
void jc_block_part(const struct jc_block *b, unsigned col, uint32_t from,
                   uint32_t n, uint64_t *out);

/* One code. */
uint64_t jc_block_code(const struct jc_block *b, uint32_t at, unsigned col);

/* All codes of one row. */
void jc_block_row(const struct jc_block *b, uint32_t at,
                  uint64_t row[JC_COLS]);

/* The string of an even code that is not 0. Good until another block is asked
 * or this one changes. */
struct jc_slice jc_block_string(const struct jc_block *b, uint64_t code);

/* The code of a string that is to live in the block. */
uint64_t jc_block_add_string(struct jc_block *b, struct jc_slice s);

/* Puts row before the row at. The block must have fewer than JC_BLOCK_ROWS; a
 * sealed one must take late rows. */
void jc_block_insert(struct jc_block *b, uint32_t at,
                     const uint64_t row[JC_COLS]);

/* ---- of open blocks only ---- */

void jc_block_remove(struct jc_block *b, uint32_t at);

/* Replaces one code. */
void jc_block_set(struct jc_block *b, uint32_t at, unsigned col,
                  uint64_t code);

/* Moves the rows from at on into the empty block to. */
void jc_block_split(struct jc_block *b, uint32_t at, struct jc_block *to);

size_t jc_block_bytes(const struct jc_block *b);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Rows of a segment in their MessagePack form, for whoever wants many: columns
 * are unpacked some rows at a time, and what all rows of a block share is
 * written once a block. The bytes are those of jc_record_encode.
 */
#ifndef SLURMJCD_ROWS_H
#define SLURMJCD_ROWS_H

#include "segment.h"

#define JC_ROWS_TILE 64 /* rows unpacked together, a multiple of 8 */

/* A piece of a row: bytes all rows share, or a column. */
struct jc_rows_piece {
    uint8_t kind;
    uint8_t col;
    uint16_t at, n; /* of the shared bytes */
};

/* All zeros is a good beginning. Some 40 KiB, so keep one. */
struct jc_rows {
    uint64_t serial, layout; /* of the segment; 0 = none */
    uint32_t block;          /* in order[] */
    uint32_t from, n;        /* rows at hand */
    uint32_t pieces;
    struct jc_rows_piece piece[JC_FIELD_COUNT + 1];
    uint8_t shared[4096];
    uint64_t code[JC_COLS][JC_ROWS_TILE];
    struct jc_slice string[JC_FIELD_COUNT][JC_ROWS_TILE];
    uint32_t bytes[JC_ROWS_TILE]; /* that a row needs at most */
};

/* Forgets what it has at hand: segments may have changed. */
void jc_rows_reset(struct jc_rows *r);

/* Is the row at place at hand? */
bool jc_rows_holds(const struct jc_rows *r, const struct jc_segment *s,
                   struct jc_place place);

/* Bytes that the row at place needs at most. Until it is reset or asked for
 * another place, jc_rows_write writes that row. */
size_t jc_rows_at(struct jc_rows *r, const struct jc_segment *s,
                  struct jc_place place);

/* Writes the row; returns the bytes it took. */
size_t jc_rows_write(const struct jc_rows *r, uint32_t row, uint8_t *out);

#endif

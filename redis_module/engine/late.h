/* SPDX-License-Identifier: MIT */
/*
 * Rows that came after their block was sealed. Packing a block anew takes as
 * long as storing some hundred rows in order, so a few late ones stay beside
 * it, unpacked, until there are some more or their day gets no jobs.
 */
#ifndef SLURMJCD_LATE_H
#define SLURMJCD_LATE_H

#include "columns.h"
#include "host.h"

#define JC_LATE_MANY 96   /* then the block is packed when its turn comes ... */
#define JC_LATE_PACE 128  /* ... as one is after so many late rows of the day */
#define JC_LATE_ROWS 224  /* at most */
#define JC_LATE_HEAP 131072 /* bytes of their strings, which end it too */

struct jc_late {
    uint32_t rows;
    uint32_t room;
    uint64_t base[JC_COLS];     /* codes that the packed columns start from */
    uint16_t at[JC_LATE_ROWS];  /* where in the block each is, ascending */
    uint64_t code[];            /* rows * JC_COLS, row by row */
};

/* Puts row before the row at of the block; *late may be NULL, lo are the codes
 * its packed columns start from then. */
void jc_late_insert(struct jc_late **late, const uint64_t lo[JC_COLS],
                    uint32_t at, const uint64_t row[JC_COLS]);

/* How many late rows come before the row at of the block. */
uint32_t jc_late_before(const struct jc_late *late, uint32_t at);

/* The codes of the row at if it is a late one, else NULL; *before as above. */
const uint64_t *jc_late_row(const struct jc_late *late, uint32_t at,
                            uint32_t *before);

/* Makes rows from .. from + n of a column: from the packed ones among them, in
 * packed, and the late ones. */
void jc_late_weave(const struct jc_late *late, unsigned col, uint32_t from,
                   uint32_t n, const uint64_t *packed, uint64_t *out);

#endif

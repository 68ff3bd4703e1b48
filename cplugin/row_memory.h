/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for the rows of an answer. A million rows of thirty strings each would
 * be twenty million allocations; here they lie in a few large chunks, and a
 * string that came a moment ago (an account, a state, a directory) is there
 * once for all rows that have it. sacct only reads rows.
 */
#ifndef JOBCOMP_REDIS_ROW_MEMORY_H
#define JOBCOMP_REDIS_ROW_MEMORY_H

#include "slurm_compat.h"

#define ROW_TEXTS 8192 /* strings remembered, a power of two */

struct row_text {
	char *text; /* NULL: none yet */
	uint32_t size;
	uint32_t hash;
};

/* One question's way to its rows' memory. */
struct row_memory {
	char *at, *end;    /* what is left of the newest chunk */
	size_t next_chunk; /* bytes of the one after it */
	struct row_text *texts;
};

/* While it lasts no chunk is freed, even if every row is gone. */
extern void row_memory_init(struct row_memory *memory);
extern void row_memory_fini(struct row_memory *memory);

/* A row, all zero. To be freed by row_free and nothing else. */
extern jobcomp_job_rec_t *row_alloc(struct row_memory *memory);

/* The delete function of a list of rows. The last row takes all memory along. */
extern void row_free(void *row);

/* A copy of n bytes and a NUL, shared by rows; nobody may write to it. */
extern char *row_text(struct row_memory *memory, const char *bytes, size_t n);

/* "uts" and the number: a point in time as parse_time() reads it. */
extern char *row_time(struct row_memory *memory, time_t when);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sacct without --duplicates shows one run of a job id: the last submitted,
 * and beside it the parts before a resize; and no sibling of a federated job
 * that was revoked since another cluster ran it. slurmdbd leaves the others
 * out of its answer; so does this.
 */
#ifndef JOBCOMP_REDIS_QUERY_DEDUP_H
#define JOBCOMP_REDIS_QUERY_DEDUP_H

#include "slurm_compat.h"

struct dedup_slot {
	jobcomp_job_rec_t *row; /* NULL: free */
	uint32_t jobid;         /* of the row, also when that is to go */
};

struct dedup {
	struct dedup_slot *slots; /* by job id, open addressing */
	size_t size;               /* a power of two */
	size_t used;
	bool found;                /* some row is to go */
};

/* Takes note of a row that went into the list. */
extern void dedup_add(struct dedup *dedup, jobcomp_job_rec_t *row);

/* Removes what is to go from the list, and frees the notes. */
extern void dedup_finish(struct dedup *dedup, jc_list_t *jobs);

#endif

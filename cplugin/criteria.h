/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From slurmdb_job_cond_t to the criteria of SLURMJC.MATCH. */
#ifndef JOBCOMP_REDIS_CRITERIA_H
#define JOBCOMP_REDIS_CRITERIA_H

#include "slurm_compat.h"

/* Name and value in turn: argv[0, argc), argc even. xmalloc'ed. */
struct criteria {
	char **argv;
	size_t argc;
	size_t size;
};

/*
 * Every condition that was set, as criteria. Returns NULL, or what the store
 * can't be asked for (a constant); then a wrong answer would follow.
 */
extern const char *criteria_from_cond(struct criteria *criteria,
				      const slurmdb_job_cond_t *job_cond);

/* Only which jobs -j named. */
extern void criteria_from_jobs(struct criteria *criteria,
			       const slurmdb_job_cond_t *job_cond);

/* Takes value over (xmalloc'ed). */
extern void criteria_add(struct criteria *criteria, const char *name,
			 char *value);

extern void criteria_free(struct criteria *criteria);

#endif

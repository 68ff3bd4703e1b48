/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reference jobs as slurmctld's job records. */
#ifndef HOOK_JOBS_H
#define HOOK_JOBS_H

#include "reference_jobs.h"
#include "slurm_compat.h"

/* A job record and everything it points to. */
struct hook_job {
	job_record_t job;
	jc_job_details_t details;
	slurmdb_qos_rec_t qos;
	slurmdb_assoc_rec_t assoc;
	struct reference_job reference;
};

/*
 * Fills job with the reference job at index of jobs, its id moved by id_offset,
 * as slurmctld would hand it to the hook when it ends.
 */
extern void hook_job_fill(struct hook_job *job, uint64_t seed, uint64_t jobs,
			  uint64_t index, uint32_t id_offset, char *cluster);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sacct's side: completed jobs from the daemon's query.sock. */
#ifndef JOBCOMP_REDIS_QUERY_H
#define JOBCOMP_REDIS_QUERY_H

#include "params.h"
#include "slurm_compat.h"

/*
 * The jobs that meet the condition, as a list of jobcomp_job_rec_t in order of
 * completion. When they can't be had completely: one line on stderr and exit
 * status 1 (sacct would print an empty table and exit 0), or NULL inside
 * slurmctld.
 */
extern jc_list_t *query_jobs(const struct params *params,
			     const slurmdb_job_cond_t *job_cond);

#endif

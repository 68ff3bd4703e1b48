/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every difference between Slurm releases that the plugin meets. The rest of
 * the code is written against what this header gives it.
 */
#ifndef JOBCOMP_REDIS_SLURM_COMPAT_H
#define JOBCOMP_REDIS_SLURM_COMPAT_H

#include "config.h" /* of the configured Slurm tree */

#include "slurm/slurm.h"
#include "slurm/slurm_errno.h"
#include "slurm/slurm_version.h"
#include "slurm/slurmdb.h"

#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(22, 5, 0)
#error "Slurm 22.05 or later is needed"
#endif

#include "src/common/list.h"
#include "src/common/log.h"
#include "src/common/parse_time.h"
#include "src/common/read_config.h"
#include "src/common/run_in_daemon.h"
#include "src/common/slurm_protocol_defs.h"
#include "src/common/xmalloc.h"
#include "src/common/xstring.h"
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(22, 11, 0)
#define SLURM_HAS_INTERFACES 1
#include "src/interfaces/jobcomp.h"
#else
#include "src/common/slurm_jobcomp.h"
#endif
#include "src/slurmctld/slurmctld.h"

/* List became list_t * everywhere in 24.08; both always name the same. */
typedef struct xlist jc_list_t;

/* struct job_details has had several names. */
typedef __typeof__(*((job_record_t *) NULL)->details) jc_job_details_t;

/* 22.05 passes JobCompLoc in, later releases leave it in slurm_conf. */
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 2, 0)
#define SET_LOCATION_ARGS char *location
#define SET_LOCATION_LOC location
#else
#define SET_LOCATION_ARGS void
#define SET_LOCATION_LOC slurm_conf.job_comp_loc
#endif

/* 25.05 renamed the hook, gave it an event, and added one for the start. */
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(25, 5, 0)
#define HAVE_RECORD_JOB_END 1
#endif

/* 25.11 plugins end without a return code. */
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(25, 11, 0)
#define FINI_TYPE void
#define FINI_RETURN return
#else
#define FINI_TYPE int
#define FINI_RETURN return SLURM_SUCCESS
#endif

/* 23.11 keeps the names of user and groups with the job, if it knows them. */
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
#define HAVE_JOB_IDENTITY 1
#endif

/* 23.02 remembers which node's failure ended the job. */
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 2, 0)
#define JOB_FAILED_NODE(job) ((job)->failed_node)
#else
#define JOB_FAILED_NODE(job) ((void) (job), (const char *) NULL)
#endif

/* 26.05 gives every job a SLUID; before that there is none. */
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(26, 5, 0)
#include "src/common/sluid.h"
#define JOB_SLUID(job) ((uint64_t) (job)->step_id.sluid)
#define SET_ROW_SLUID(memory, row, value) \
	do { \
		char *sluid_ = sluid2str(value); \
		(row)->sluid = row_text(memory, sluid_, strlen(sluid_)); \
		xfree(sluid_); \
	} while (0)
#else
#define JOB_SLUID(job) ((void) (job), (uint64_t) 0)
#define SET_ROW_SLUID(memory, row, value) \
	((void) (memory), (void) (row), (void) (value))
#endif

/* 23.02.5 shows no CPUs for a job that was given none, before that those it
 * had asked for (sacct's print.c: cpu_tres_rec_count). */
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 2, 5)
#define SACCT_SHOWS_ALLOCATED_CPUS 1
#endif

/* 24.11 shows each part of a resized job with its own start: slurmdbd is no
 * longer told the start of the whole again (SLURMDB_JOB_FLAG_START_R). */
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(24, 11, 0)
#define SACCT_SHOWS_START_OF_PART 1
#endif

/* 23.11 can ask for a range of array tasks at once. */
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
#define HAVE_ARRAY_BITMAP 1
#endif

#endif

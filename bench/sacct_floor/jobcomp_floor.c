/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * jobcomp/floor: hands everything to the plugin that JOBCOMP_FLOOR_PLUGIN names
 * and, when that has handed its rows over, writes the time to standard error:
 * "handed over at <seconds of CLOCK_MONOTONIC>". What sacct takes from there on
 * is its own.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "slurm_compat.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED const char plugin_name[] = "Job completion floor";
EXPORTED const char plugin_type[] = "jobcomp/floor";
EXPORTED const uint32_t plugin_version = SLURM_VERSION_NUMBER;

static void *real;

static void *_real(const char *name)
{
	const char *path = getenv("JOBCOMP_FLOOR_PLUGIN");
	void *symbol;

	if (!real && !(real = dlopen(path ? path : "", RTLD_NOW)))
		fatal("JOBCOMP_FLOOR_PLUGIN: %s", dlerror());
	symbol = dlsym(real, name);
	if (!symbol)
		fatal("%s has no %s", path, name);
	return symbol;
}

EXPORTED extern int init(void)
{
	int (*real_init)(void) = _real("init");

	return real_init();
}

EXPORTED extern FINI_TYPE fini(void)
{
	FINI_TYPE (*real_fini)(void) = _real("fini");

	(void) real_fini();
	FINI_RETURN;
}

EXPORTED extern int jobcomp_p_set_location(SET_LOCATION_ARGS)
{
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 2, 0)
	int (*set)(char *) = _real("jobcomp_p_set_location");

	return set(location);
#else
	int (*set)(void) = _real("jobcomp_p_set_location");

	return set();
#endif
}

EXPORTED extern int jobcomp_p_log_record(job_record_t *job_ptr)
{
	(void) job_ptr;
	return SLURM_ERROR;
}

EXPORTED extern int jobcomp_p_record_job_end(job_record_t *job_ptr,
					     uint32_t event)
{
	(void) job_ptr;
	(void) event;
	return SLURM_ERROR;
}

EXPORTED extern int jobcomp_p_record_job_start(job_record_t *job_ptr,
					       uint32_t event)
{
	(void) job_ptr;
	(void) event;
	return SLURM_ERROR;
}

EXPORTED extern jc_list_t *jobcomp_p_get_jobs(slurmdb_job_cond_t *job_cond)
{
	jc_list_t *(*get)(slurmdb_job_cond_t *) = _real("jobcomp_p_get_jobs");
	jc_list_t *jobs = get(job_cond);
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	fprintf(stderr, "handed over at %lld.%09ld\n", (long long) now.tv_sec,
		now.tv_nsec);
	return jobs;
}

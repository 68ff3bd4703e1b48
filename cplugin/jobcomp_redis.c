/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Job completion plugin for slurmjcd: Slurm's entry points.
 *
 * slurmctld and sacct load the same file. In slurmctld the hook puts a record
 * into the ring (ring.h) and the sender's thread (sender.h) takes it from there;
 * in sacct there is neither, only query.c.
 *
 * init and set_location succeed whatever is wrong: slurmctld ends when they
 * don't. Slurm holds a lock around every entry point, so none of them runs
 * twice at a time in one process.
 */
#include <dlfcn.h>

#include "job_record.h"
#include "params.h"
#include "plog.h"
#include "query.h"
#include "resizes.h"
#include "ring_dir.h"
#include "sender.h"
#include "slurm_compat.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED const char plugin_name[] = "Job completion slurmjcd plugin";
EXPORTED const char plugin_type[] = "jobcomp/redis";
EXPORTED const uint32_t plugin_version = SLURM_VERSION_NUMBER;

static struct sender_config config;
static struct ring *ring;     /* NULL outside slurmctld */
static struct sender *sender; /* NULL while no thread could be started */
static bool dropping;         /* the last record found no room */
#ifdef HAVE_RECORD_JOB_END
static uint64_t started_jobs;
#endif

static void _to_slurm_log(enum plog_level level, const char *line)
{
	if (level == PLOG_ERROR)
		error("%s: %s", plugin_type, line);
	else if (level == PLOG_INFO)
		info("%s: %s", plugin_type, line);
	else
		debug("%s: %s", plugin_type, line);
}

/* True when text is not *seen; *seen is a copy of it from then on. */
static bool _changed(char **seen, const char *text)
{
	if (!text)
		text = "";
	if (*seen && !xstrcmp(*seen, text))
		return false;
	xfree(*seen);
	*seen = xstrdup(text);
	return true;
}

/*
 * Slurm calls set_location right after init and at every reconfigure: what is
 * wrong with slurm.conf is said once, and again only when it was changed.
 */
static void _read_params(const char *location, const char *options)
{
	static char *seen_location, *seen_options;
	bool changed = _changed(&seen_location, location);

	if (_changed(&seen_options, options) || changed)
		params_parse(&config.params, location, options);
}

static void _read_config(const char *location)
{
	_read_params(location, slurm_conf.job_comp_params);
	snprintf(config.state_dir, sizeof(config.state_dir), "%s",
		 slurm_conf.state_save_location ?
		 slurm_conf.state_save_location : "");
	snprintf(config.cluster, sizeof(config.cluster), "%s",
		 slurm_conf.cluster_name ? slurm_conf.cluster_name : "");
	snprintf(config.program, sizeof(config.program),
		 "jobcomp_redis/" SLURM_VERSION_STRING);
}

/*
 * Slurm unloads a plugin after fini. A thread that fini could not wait for
 * would then run in memory that is gone, so this file stays loaded.
 */
static void _stay_loaded(void)
{
	Dl_info info;

	if (dladdr(&plugin_version, &info) && info.dli_fname)
		(void) dlopen(info.dli_fname,
			      RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

static void _start_sender(void)
{
	if (ring && !sender)
		sender = sender_start(&config, ring);
}

EXPORTED extern int init(void)
{
	plog_sink = _to_slurm_log;
	if (!running_in_slurmctld())
		return SLURM_SUCCESS;
	_stay_loaded();
	_read_config(slurm_conf.job_comp_loc);
	resizes_load(config.state_dir);
	ring = ring_dir_open(config.params.ring_dir, config.state_dir,
			     config.cluster,
			     (uint64_t) config.params.ring_mib << 20);
	if (ring)
		info("%s: ring %s of %llu MiB, source %s", plugin_type,
		     ring->path[0] ? ring->path : "in private memory",
		     (unsigned long long) (ring->size >> 20), ring->id);
	else
		error("%s: no memory for a ring, job records are lost",
		      plugin_type);
	_start_sender();
	return SLURM_SUCCESS;
}

EXPORTED extern FINI_TYPE fini(void)
{
	if (sender && !sender_stop(sender))
		error("%s: the sender's thread hangs, leaving it behind; its records stay in the ring",
		      plugin_type);
	else if (ring && !sender)
		ring_close(ring);
	sender = NULL;
	ring = NULL;
#ifdef HAVE_RECORD_JOB_END
	debug("%s: %llu jobs were reported as started", plugin_type,
	      (unsigned long long) started_jobs);
#endif
	FINI_RETURN;
}

EXPORTED extern int jobcomp_p_set_location(SET_LOCATION_ARGS)
{
	_read_config(SET_LOCATION_LOC);
	if (sender)
		sender_configure(sender, &config);
	else
		_start_sender();
	return SLURM_SUCCESS;
}

/*
 * The sender writes dropped jobs into Slurm's log; a hook that finds the ring
 * full must not wait for a log file as well.
 */
static int _drop(const job_record_t *job_ptr)
{
	static struct plog_limit limit;

	if (ring)
		ring_drop(ring, job_ptr->job_id);
	/*
	 * The sender can do no more for the second drop than for the first,
	 * and waking it for each would cost a system call a record.
	 */
	if (sender && !dropping)
		sender_wake(sender);
	dropping = true;
	if (!sender && plog_allow(&limit, 1000))
		error("%s: record of JobId=%u dropped, there is no %s",
		      plugin_type, job_ptr->job_id,
		      ring ? "sender thread" : "ring");
	return SLURM_ERROR;
}

/*
 * The hook. slurmctld runs it under its job write lock: encode into the ring
 * and return.
 */
static int _record_job(const job_record_t *job_ptr)
{
	struct ring_rec_head head;

	if (!ring)
		return _drop(job_ptr);
	for (int wrapped = 0; wrapped < 2; wrapped++) {
		size_t room;
		uint8_t *to = ring_reserve(ring, wrapped, &room);

		if (!to || !job_record_encode(job_ptr, config.cluster,
					      time(NULL), to, room, &head))
			continue;
		if (config.params.store_script && job_ptr->batch_flag)
			head.flags |= RING_REC_WANT_SCRIPT;
		ring_commit(ring, &head);
		dropping = false;
		if (sender)
			sender_wake(sender);
		return SLURM_SUCCESS;
	}
	return _drop(job_ptr);
}

#ifdef HAVE_RECORD_JOB_END
EXPORTED extern int jobcomp_p_record_job_end(job_record_t *job_ptr,
					     uint32_t event)
{
	(void) event;
	return _record_job(job_ptr);
}

/* Completed jobs are what is kept; a start is accepted and counted. */
EXPORTED extern int jobcomp_p_record_job_start(job_record_t *job_ptr,
					       uint32_t event)
{
	(void) job_ptr;
	(void) event;
	started_jobs++;
	return SLURM_SUCCESS;
}
#else
EXPORTED extern int jobcomp_p_log_record(job_record_t *job_ptr)
{
	return _record_job(job_ptr);
}
#endif

EXPORTED extern jc_list_t *jobcomp_p_get_jobs(slurmdb_job_cond_t *job_cond)
{
	if (!config.params.query_path[0])
		_read_config(slurm_conf.job_comp_loc);
	return query_jobs(&config.params, job_cond);
}

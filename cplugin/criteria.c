/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criteria.h"

#ifdef HAVE_ARRAY_BITMAP
#include "src/common/bitstring.h"
#endif

/* Of job ids in one criterion; a long list is several, which mean "or". */
#define JOBS_BYTES 65536

extern void criteria_add(struct criteria *criteria, const char *name,
			 char *value)
{
	if (criteria->argc + 2 > criteria->size) {
		criteria->size = criteria->size ? criteria->size * 2 : 32;
		xrealloc(criteria->argv,
			 criteria->size * sizeof(*criteria->argv));
	}
	criteria->argv[criteria->argc++] = xstrdup(name);
	criteria->argv[criteria->argc++] = value;
}

/* Before 1970 there were no jobs: such a time is as good as its first second. */
static void _add_time(struct criteria *criteria, const char *name, time_t when)
{
	if (when < 0)
		when = 0;
	criteria_add(criteria, name, xstrdup_printf("%lld", (long long) when));
}

/* One criterion per string: the same name again means "or". */
static void _add_each(struct criteria *criteria, const char *name,
		      jc_list_t *values)
{
	struct listIterator *itr;
	char *value;

	if (!values || !list_count(values))
		return;
	itr = list_iterator_create(values);
	while ((value = list_next(itr)))
		criteria_add(criteria, name, xstrdup(value));
	list_iterator_destroy(itr);
}

/* All of them in one criterion, as a comma list: numbers. */
static void _add_joined(struct criteria *criteria, const char *name,
			jc_list_t *values)
{
	char *joined = NULL, *at = NULL;
	struct listIterator *itr;
	char *value;

	if (!values || !list_count(values))
		return;
	itr = list_iterator_create(values);
	while ((value = list_next(itr)))
		xstrfmtcatat(joined, &at, "%s%s", joined ? "," : "", value);
	list_iterator_destroy(itr);
	criteria_add(criteria, name, joined);
}

/* sacct takes names of QOS if it can't look up their ids. */
static void _add_qos(struct criteria *criteria, jc_list_t *values)
{
	struct listIterator *itr;
	char *value;

	if (!values || !list_count(values))
		return;
	itr = list_iterator_create(values);
	while ((value = list_next(itr)))
		criteria_add(criteria,
			     (value[0] && (strspn(value, "0123456789") ==
					   strlen(value))) ? "qos_id" : "qos",
			     xstrdup(value));
	list_iterator_destroy(itr);
}

/* As slurmdbd reads the pair: without a maximum the minimum is meant exactly. */
static void _add_range(struct criteria *criteria, const char *name,
		       uint32_t min, uint32_t max)
{
	if (!min)
		return;
	if (max && (max != INFINITE) && (max != NO_VAL))
		criteria_add(criteria, name, xstrdup_printf("%u-%u", min, max));
	else if (max)
		criteria_add(criteria, name, xstrdup_printf("%u-", min));
	else
		criteria_add(criteria, name, xstrdup_printf("%u", min));
}

/* 100, 100_5, 100_[1-3], 100+1 */
static void _add_job(char **joined, char **at,
		     const slurm_selected_step_t *step, bool whole_hetjob)
{
	const char *comma = *joined ? "," : "";
	uint32_t job_id = step->step_id.job_id;

#ifdef HAVE_ARRAY_BITMAP
	if (step->array_bitmap && (bit_ffs(step->array_bitmap) >= 0)) {
		char *tasks = bit_fmt_full(step->array_bitmap);

		xstrfmtcatat(*joined, at, "%s%u_[%s]", comma, job_id, tasks);
		xfree(tasks);
		return;
	}
#endif
	if (step->array_task_id != NO_VAL)
		xstrfmtcatat(*joined, at, "%s%u_%u", comma, job_id,
			     step->array_task_id);
	else if ((step->het_job_offset != NO_VAL) && !whole_hetjob)
		xstrfmtcatat(*joined, at, "%s%u+%u", comma, job_id,
			     step->het_job_offset);
	else
		xstrfmtcatat(*joined, at, "%s%u", comma, job_id);
}

extern void criteria_from_jobs(struct criteria *criteria,
			       const slurmdb_job_cond_t *job_cond)
{
	bool whole_hetjob = job_cond->flags & JOBCOND_FLAG_WHOLE_HETJOB;
	jc_list_t *steps = job_cond->step_list;
	char *joined = NULL, *at = NULL;
	slurm_selected_step_t *step;
	struct listIterator *itr;

	if (!steps || !list_count(steps))
		return;
	itr = list_iterator_create(steps);
	while ((step = list_next(itr))) {
		_add_job(&joined, &at, step, whole_hetjob);
		if (at - joined < JOBS_BYTES)
			continue;
		criteria_add(criteria, "job", joined);
		joined = at = NULL;
	}
	list_iterator_destroy(itr);
	if (joined)
		criteria_add(criteria, "job", joined);
}

static void _add_limit(struct criteria *criteria,
		       const slurmdb_job_cond_t *job_cond)
{
	if (job_cond->timelimit_min == INFINITE)
		criteria_add(criteria, "time_limit",
			     xstrdup_printf("%u-", NO_VAL));
	else
		_add_range(criteria, "time_limit", job_cond->timelimit_min,
			   job_cond->timelimit_max);
}

static void _add_exit_code(struct criteria *criteria, int32_t status)
{
	if (!status)
		return;
	if (WIFSIGNALED(status))
		criteria_add(criteria, "exit",
			     xstrdup_printf("0:%d", WTERMSIG(status)));
	else
		criteria_add(criteria, "exit",
			     xstrdup_printf("%d", WEXITSTATUS(status)));
}

static bool _given(jc_list_t *list)
{
	return list && list_count(list);
}

extern const char *criteria_from_cond(struct criteria *criteria,
				      const slurmdb_job_cond_t *job_cond)
{
	memset(criteria, 0, sizeof(*criteria));
	if (!job_cond)
		return NULL;
	if (_given(job_cond->associd_list))
		return "association ids (-x)";
	if (_given(job_cond->resvid_list))
		return "reservation ids";
	if (job_cond->flags & JOBCOND_FLAG_RUNAWAY)
		return "runaway jobs";

	if (job_cond->usage_start)
		_add_time(criteria, "start", job_cond->usage_start);
	if (job_cond->usage_end)
		_add_time(criteria, "end", job_cond->usage_end);
	criteria_from_jobs(criteria, job_cond);
	_add_joined(criteria, "uid", job_cond->userid_list);
	_add_joined(criteria, "gid", job_cond->groupid_list);
	_add_joined(criteria, "state", job_cond->state_list);
	_add_joined(criteria, "reason", job_cond->reason_list);
	_add_each(criteria, "account", job_cond->acct_list);
	_add_each(criteria, "cluster", job_cond->cluster_list);
	_add_each(criteria, "partition", job_cond->partition_list);
	_add_each(criteria, "wckey", job_cond->wckey_list);
	_add_each(criteria, "reservation", job_cond->resv_list);
	_add_each(criteria, "name", job_cond->jobname_list);
	_add_each(criteria, "constraint", job_cond->constraint_list);
	_add_qos(criteria, job_cond->qos_list);
	_add_range(criteria, "nodes_count", job_cond->nodes_min,
		   job_cond->nodes_max);
	_add_range(criteria, "cpus_count", job_cond->cpus_min,
		   job_cond->cpus_max);
	_add_limit(criteria, job_cond);
	_add_exit_code(criteria, job_cond->exitcode);
	if (job_cond->used_nodes && job_cond->used_nodes[0])
		criteria_add(criteria, "node", xstrdup(job_cond->used_nodes));
	return NULL;
}

extern void criteria_free(struct criteria *criteria)
{
	for (size_t i = 0; i < criteria->argc; i++)
		xfree(criteria->argv[i]);
	xfree(criteria->argv);
	memset(criteria, 0, sizeof(*criteria));
}

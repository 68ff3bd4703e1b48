/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#include "query_row.h"

/* Values at or above NO_VAL have meanings of their own; none is stored. */
static uint32_t _number(const struct jc_record *record,
			enum jc_field_position field)
{
	return record->number[field].known ?
	       (uint32_t) record->number[field].value : 0;
}

static time_t _time(const struct jc_record *record,
		    enum jc_field_position field)
{
	return record->number[field].known ?
	       (time_t) record->number[field].value : 0;
}

static char *_text_or(struct row_memory *memory,
		      const struct jc_record *record,
		      enum jc_field_position field, char *otherwise)
{
	const struct jc_slice *slice = &record->string[field];

	return slice->p ? row_text(memory, slice->p, slice->n) : otherwise;
}

static char *_text(struct row_memory *memory, const struct jc_record *record,
		   enum jc_field_position field)
{
	return _text_or(memory, record, field, NULL);
}

/*
 * sacct parses these strings again before it prints them. The form "uts<n>"
 * takes parse_time() to exactly that second: a local time would be ambiguous in
 * the hour that daylight saving repeats, unreadable to it under most settings
 * of SLURM_TIME_FORMAT, and ten times slower. Only small numbers it does not
 * know; what stands for "never" must come out as 0 and so is local time.
 */
static char *_time_text(struct row_memory *memory, time_t when)
{
	static char never[32];
	struct tm tm;

	if (when >= 1000000)
		return row_time(memory, when);
	if (!never[0]) {
		time_t zero = 0;

		localtime_r(&zero, &tm);
		strftime(never, sizeof(never), "%Y-%m-%dT%H:%M:%S", &tm);
	}
	return never;
}

/* code:signal; absent shows as 0:0, as it does from slurmdbd. */
static char *_status_text(struct row_memory *memory,
			  const struct jc_record *record,
			  enum jc_field_position field, bool fold_signals)
{
	int status = (int) _number(record, field), code = 0, sig = 0, n;
	char text[32];

	if (!status)
		return "0:0";

	if (WIFSIGNALED(status))
		sig = WTERMSIG(status);
	else if (WIFEXITED(status))
		code = WEXITSTATUS(status);
	/* what sacct does to ExitCode, but not to DerivedExitCode */
	if (fold_signals && (code >= 128))
		code -= 128;
	n = snprintf(text, sizeof(text), "%d:%d", code, sig);
	return row_text(memory, text, (size_t) n);
}

/* Flags that are an outcome of their own; slurmdbd keeps the same ones. */
static char *_state_text(struct row_memory *memory,
			 const struct jc_record *record)
{
	uint32_t flags = record->state_flags, state;
	char text[64];
	int n;

	if (flags & JOB_RESIZING)
		return (char *) job_state_string(JOB_RESIZING);
	if (flags & JOB_REQUEUE)
		return (char *) job_state_string(JOB_REQUEUE);
	if (flags & JOB_REVOKED)
		return (char *) job_state_string(JOB_REVOKED);
	state = _number(record, JC_FIELD_STATE) & JOB_STATE_BASE;
	if ((state != JOB_CANCELLED) || !record->cancelled_by.known)
		return (char *) job_state_string(state);
	n = snprintf(text, sizeof(text), "%s by %"PRIu64,
		     job_state_string(state), record->cancelled_by.value);
	return row_text(memory, text, (size_t) n);
}

static char *_limit_text(struct row_memory *memory,
			 const struct jc_record *record)
{
	char text[32];

	switch (record->limit_kind) {
	case JC_LIMIT_UNLIMITED:
		return "UNLIMITED";
	case JC_LIMIT_PARTITION:
		return "Partition_Limit";
	case JC_LIMIT_MINUTES:
		mins2time_str(record->time_limit, text, sizeof(text));
		return row_text(memory, text, strlen(text));
	default:
		return NULL;
	}
}

static time_t _elapsed(const struct jc_record *record, time_t start, time_t end)
{
	time_t elapsed = end - start - (time_t) record->suspended;

	return (start && (elapsed > 0)) ? elapsed : 0;
}

/* When sacct shows it to have begun, 0: never. */
static time_t _start(const struct jc_record *record)
{
#ifndef SACCT_SHOWS_START_OF_PART
	if (record->orig_start)
		return (time_t) record->orig_start;
#endif
	return _time(record, JC_FIELD_START);
}

static uint32_t _cpus(const struct jc_record *record)
{
#ifdef SACCT_SHOWS_ALLOCATED_CPUS
	if (!record->string[JC_FIELD_TRES_ALLOC].p &&
	    !_time(record, JC_FIELD_START))
		return 0;
#endif
	return _number(record, JC_FIELD_CPU_COUNT);
}

extern jobcomp_job_rec_t *query_row(struct row_memory *memory,
				    const struct jc_record *record)
{
	jobcomp_job_rec_t *row = row_alloc(memory);
	time_t start, end;

	start = _start(record);
	end = _time(record, JC_FIELD_END);
	row->jobid = _number(record, JC_FIELD_JOB_ID);
	if (record->number[JC_FIELD_SLUID].known)
		SET_ROW_SLUID(memory, row,
			      record->number[JC_FIELD_SLUID].value);
	row->uid = _number(record, JC_FIELD_UID);
	row->gid = _number(record, JC_FIELD_GID);
	row->uid_name = _text(memory, record, JC_FIELD_USER);
	row->gid_name = _text(memory, record, JC_FIELD_GROUP);
	row->jobname = _text_or(memory, record, JC_FIELD_NAME, "allocation");
	row->cluster = _text(memory, record, JC_FIELD_CLUSTER);
	row->partition = _text(memory, record, JC_FIELD_PARTITION);
	row->account = _text(memory, record, JC_FIELD_ACCOUNT);
	row->qos_name = _text(memory, record, JC_FIELD_QOS);
	row->wckey = _text(memory, record, JC_FIELD_WCKEY);
	row->resv_name = _text(memory, record, JC_FIELD_RESERVATION);
	row->work_dir = _text(memory, record, JC_FIELD_WORK_DIR);
	row->nodelist = _text_or(memory, record, JC_FIELD_NODES,
				 "None assigned");
	row->tres_fmt_req_str = _text(memory, record, JC_FIELD_TRES_REQ);
	row->node_cnt = _number(record, JC_FIELD_NODE_COUNT);
	row->proc_cnt = row->max_procs = _cpus(record);
	row->state = _state_text(memory, record);
	row->timelimit = _limit_text(memory, record);
	row->exit_code = _status_text(memory, record, JC_FIELD_EXIT_CODE, true);
	row->derived_ec = _status_text(memory, record,
				       JC_FIELD_DERIVED_EXIT_CODE, false);
	row->submit_time = _time_text(memory, _time(record, JC_FIELD_SUBMIT));
	row->eligible_time = _time_text(memory, _time(record, JC_FIELD_ELIGIBLE));
	/* sacct prints the number NO_VAL as "None", as it does from slurmdbd */
	row->start_time = _time_text(memory, start ? start : (time_t) NO_VAL);
	row->end_time = _time_text(memory, end);
	row->elapsed_time = _elapsed(record, start, end);
	return row;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "jobs.h"

static uint32_t _number(const struct jc_record *record,
			enum jc_field_position field, uint32_t otherwise)
{
	return record->number[field].known ?
	       (uint32_t) record->number[field].value : otherwise;
}

/* The buffer when the record has the string at all. */
static char *_text(const struct jc_record *record,
		   enum jc_field_position field, char *buffer)
{
	return record->string[field].p ? buffer : NULL;
}

static uint32_t _limit(const struct jc_record *record)
{
	switch (record->limit_kind) {
	case JC_LIMIT_MINUTES:
		return record->time_limit;
	case JC_LIMIT_UNLIMITED:
		return INFINITE;
	default:
		return NO_VAL;
	}
}

extern void hook_job_fill(struct hook_job *job, uint64_t seed, uint64_t jobs,
			  uint64_t index, uint32_t id_offset, char *cluster)
{
	struct reference_job *from = &job->reference;
	const struct jc_record *record = &from->record;

	reference_job(from, seed, jobs, index);
	memset(&job->details, 0, sizeof(job->details));
	memset(&job->job, 0, sizeof(job->job));
	job->details = (jc_job_details_t) {
		.submit_time = _number(record, JC_FIELD_SUBMIT, 0),
		.begin_time = _number(record, JC_FIELD_ELIGIBLE, 0),
		.min_nodes = _number(record, JC_FIELD_NODE_COUNT, 1),
		.min_cpus = _number(record, JC_FIELD_CPU_COUNT, 1),
		.work_dir = _text(record, JC_FIELD_WORK_DIR, from->work_dir),
		.std_out = from->std_out[0] ? from->std_out : NULL,
		.num_tasks = 1,
		.ntasks_per_node = NO_VAL16,
		.cpus_per_task = NO_VAL16,
	};
	job->qos.name = from->qos;
	job->assoc.cluster = cluster;
	/* jobcomp/elasticsearch looks for parents in it; there are none */
	if (!job->assoc.usage)
		job->assoc.usage = slurmdb_create_assoc_usage(1);
	job->job = (job_record_t) {
		.magic = JOB_MAGIC,
		.batch_flag = 1,
		.job_id = _number(record, JC_FIELD_JOB_ID, 1) + id_offset,
		.array_job_id = _number(record, JC_FIELD_ARRAY_JOB_ID, 0),
		.array_task_id = _number(record, JC_FIELD_ARRAY_TASK_ID,
					 NO_VAL),
		.het_job_offset = NO_VAL,
		.user_id = _number(record, JC_FIELD_UID, 0),
		.group_id = _number(record, JC_FIELD_GID, 0),
		.user_name = from->user,
		.name = _text(record, JC_FIELD_NAME, from->name),
		.partition = from->partition,
		.account = from->account,
		.qos_id = _number(record, JC_FIELD_QOS_ID, 0),
		.qos_ptr = &job->qos,
		.assoc_ptr = &job->assoc,
		.job_state = _number(record, JC_FIELD_STATE, JOB_COMPLETE) |
			     JOB_COMPLETING,
		.state_reason = _number(record, JC_FIELD_STATE_REASON, 0),
		.exit_code = _number(record, JC_FIELD_EXIT_CODE, NO_VAL),
		.derived_ec = _number(record, JC_FIELD_DERIVED_EXIT_CODE,
				      NO_VAL),
		.start_time = _number(record, JC_FIELD_START, 0),
		.end_time = _number(record, JC_FIELD_END, 1),
		.time_limit = _limit(record),
		.node_cnt = _number(record, JC_FIELD_NODE_COUNT, 0),
		.total_nodes = _number(record, JC_FIELD_NODE_COUNT, 0),
		.total_cpus = _number(record, JC_FIELD_CPU_COUNT, 0),
		.nodes = _text(record, JC_FIELD_NODES, from->nodes),
		.tres_fmt_req_str = _text(record, JC_FIELD_TRES_REQ,
					  from->tres),
		.tres_fmt_alloc_str = _text(record, JC_FIELD_TRES_ALLOC,
					    from->tres),
		.priority = _number(record, JC_FIELD_PRIORITY, NO_VAL),
		.restart_cnt = (uint16_t) _number(record,
						  JC_FIELD_RESTART_COUNT, 0),
		.details = &job->details,
	};
	if (job->job.array_job_id)
		job->job.array_job_id += id_offset;
}

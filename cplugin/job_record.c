/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "job_record.h"
#include "record.h"
#include "resizes.h"

#define MAX_EXTRA 32

/* One pair of the map 'extra'; text.p == NULL: number. */
struct extra_pair {
	const char *key;
	struct jc_slice text;
	uint64_t number;
};

struct job_encoding {
	struct jc_record record;
	struct extra_pair extra[MAX_EXTRA];
	uint32_t extra_count;
	time_t orig_start; /* of a job that was resized since, else 0 */
	char truncated[512];
	size_t truncated_len;
};

/* ---- strings ---- */

static void _note_truncated(struct job_encoding *enc, const char *name)
{
	size_t n = strlen(name);

	if (enc->truncated_len + n + 1 >= sizeof(enc->truncated))
		return;
	if (enc->truncated_len)
		enc->truncated[enc->truncated_len++] = ',';
	memcpy(enc->truncated + enc->truncated_len, name, n);
	enc->truncated_len += n;
}

/* At most max bytes of text, cut before a UTF-8 sequence, never inside. */
static struct jc_slice _slice(struct job_encoding *enc, const char *name,
			      const char *text, uint32_t max)
{
	struct jc_slice slice = { 0 };
	size_t n;

	if (!text || !text[0])
		return slice;
	n = strnlen(text, (size_t) max + 1);
	if (n > max) {
		n = max;
		for (int back = 0; (back < 3) && n &&
		     (((uint8_t) text[n] & 0xc0) == 0x80); back++)
			n--;
		if (((uint8_t) text[n] & 0xc0) == 0x80)
			n = max; /* no UTF-8 at all */
		_note_truncated(enc, name);
	}
	slice.p = text;
	slice.n = (uint32_t) n;
	return slice;
}

static void _set_text(struct job_encoding *enc, enum jc_field_position field,
		      const char *text)
{
	const struct jc_field *is = &jc_fields[field];

	enc->record.string[field] = _slice(enc, is->name, text,
					   is->max_bytes);
}

static void _add_text(struct job_encoding *enc, const char *key,
		      const char *text, uint32_t max)
{
	struct jc_slice slice = _slice(enc, key, text, max);

	if (slice.p)
		enc->extra[enc->extra_count++] = (struct extra_pair) {
			.key = key,
			.text = slice,
		};
}

/* ---- numbers ---- */

static void _set_number(struct job_encoding *enc, enum jc_field_position field,
			uint64_t value)
{
	enc->record.number[field] = (struct jc_number) {
		.value = value,
		.known = true,
	};
}

/* NO_VAL and INFINITE are Slurm's words for nothing. */
static void _set_number_32(struct job_encoding *enc,
			   enum jc_field_position field, uint32_t value)
{
	if ((value != NO_VAL) && (value != INFINITE))
		_set_number(enc, field, value);
}

static void _set_time(struct job_encoding *enc, enum jc_field_position field,
		      time_t value)
{
	_set_number(enc, field, (value > 0) ? (uint64_t) value : 0);
}

static void _add_number(struct job_encoding *enc, const char *key,
			uint64_t number)
{
	enc->extra[enc->extra_count++] = (struct extra_pair) {
		.key = key,
		.number = number,
	};
}

static void _add_number_16(struct job_encoding *enc, const char *key,
			   uint16_t number)
{
	if (number && (number != NO_VAL16) && (number != INFINITE16))
		_add_number(enc, key, number);
}

/* ---- the job ---- */

static void _set_ids(struct job_encoding *enc, const job_record_t *job_ptr)
{
	_set_number(enc, JC_FIELD_VERSION, JC_RECORD_VERSION);
	_set_number(enc, JC_FIELD_JOB_ID, job_ptr->job_id);
	if (job_ptr->array_job_id)
		_set_number_32(enc, JC_FIELD_ARRAY_JOB_ID,
			       job_ptr->array_job_id);
	if (job_ptr->array_job_id)
		_set_number_32(enc, JC_FIELD_ARRAY_TASK_ID,
			       job_ptr->array_task_id);
	if (job_ptr->het_job_id && (job_ptr->het_job_id != NO_VAL)) {
		_set_number_32(enc, JC_FIELD_HET_JOB_ID, job_ptr->het_job_id);
		_set_number_32(enc, JC_FIELD_HET_JOB_OFFSET,
			       job_ptr->het_job_offset);
	}
	if (JOB_SLUID(job_ptr))
		_set_number(enc, JC_FIELD_SLUID, JOB_SLUID(job_ptr));
	_set_number(enc, JC_FIELD_UID, job_ptr->user_id);
	_set_number(enc, JC_FIELD_GID, job_ptr->group_id);
	_set_number(enc, JC_FIELD_RESTART_COUNT, job_ptr->restart_cnt);
}

static void _set_names(struct job_encoding *enc, const job_record_t *job_ptr,
		       const char *cluster)
{
	const char *user = job_ptr->user_name;

#ifdef HAVE_JOB_IDENTITY
	const identity_t *id = job_ptr->id;

	if (id && id->pw_name)
		user = id->pw_name;
	for (int i = 0; id && id->gr_names && id->gids && (i < id->ngids); i++)
		if (id->gids[i] == job_ptr->group_id)
			_set_text(enc, JC_FIELD_GROUP, id->gr_names[i]);
#endif
	_set_text(enc, JC_FIELD_USER, user);
	_set_text(enc, JC_FIELD_NAME, job_ptr->name);
	_set_text(enc, JC_FIELD_CLUSTER, cluster);
	_set_text(enc, JC_FIELD_ACCOUNT, job_ptr->account);
	_set_text(enc, JC_FIELD_QOS,
		  job_ptr->qos_ptr ? job_ptr->qos_ptr->name : NULL);
	if (job_ptr->qos_id)
		_set_number_32(enc, JC_FIELD_QOS_ID, job_ptr->qos_id);
	_set_text(enc, JC_FIELD_WCKEY, job_ptr->wckey);
	_set_text(enc, JC_FIELD_RESERVATION, job_ptr->resv_name);
}

/*
 * A job cancelled while pending has whatever start Slurm expected, or that of
 * its cancellation; what it never has is nodes. Only a job that asked for no
 * nodes runs without any.
 */
static bool _ran(const job_record_t *job_ptr, time_t end)
{
	bool wants_nodes = job_ptr->details && job_ptr->details->min_nodes &&
			   (job_ptr->details->min_nodes != NO_VAL);

	if (!job_ptr->start_time || (job_ptr->start_time > end))
		return false;
	return (job_ptr->nodes && job_ptr->nodes[0]) || !wants_nodes;
}

/* Returns whether the job ran. */
static bool _set_times(struct job_encoding *enc, const job_record_t *job_ptr,
		       time_t now)
{
	const jc_job_details_t *details = job_ptr->details;
	time_t end = job_ptr->end_time, start = job_ptr->start_time;
	time_t resized = job_ptr->resize_time;
	bool ran;

	/*
	 * A resize ends one record and begins the next. Slurm notes its time
	 * first and then reports the part before it.
	 */
	if (job_ptr->job_state & JOB_RESIZING) {
		end = resized ? resized : now;
		resized = resizes_note(job_ptr->job_id, start, end);
	} else if (end <= 0) {
		end = now;
	}
	/* slurmctld keeps the time of a resize when it requeues the job */
	if (resized < start)
		resized = 0;
	ran = _ran(job_ptr, end);
	_set_time(enc, JC_FIELD_SUBMIT, details ? details->submit_time : 0);
	if (resized) {
		/* as slurmdbd has it, a part becomes eligible when it begins */
		_set_time(enc, JC_FIELD_ELIGIBLE, resized);
		_set_time(enc, JC_FIELD_START, resized);
		if (start > 0)
			enc->orig_start = start;
	} else {
		_set_time(enc, JC_FIELD_ELIGIBLE,
			  details ? details->begin_time : 0);
		_set_time(enc, JC_FIELD_START, ran ? start : 0);
	}
	_set_time(enc, JC_FIELD_END, end);
	return ran;
}

static void _set_outcome(struct job_encoding *enc, const job_record_t *job_ptr)
{
	uint32_t flags = job_ptr->job_state & JOB_STATE_FLAGS;

	_set_number(enc, JC_FIELD_STATE, job_ptr->job_state & JOB_STATE_BASE);
	/* those two say that Slurm is still tidying up, not how it ended */
	flags &= ~(uint32_t) (JOB_COMPLETING | JOB_CONFIGURING);
	if (flags)
		_add_number(enc, "state_flags", flags);
	if (job_ptr->state_reason_prev_db &&
	    ((uint32_t) job_ptr->state_reason_prev_db <= UINT16_MAX))
		_add_number(enc, "state_reason_prev",
			    job_ptr->state_reason_prev_db);
	if ((uint32_t) job_ptr->state_reason <= UINT16_MAX)
		_set_number(enc, JC_FIELD_STATE_REASON, job_ptr->state_reason);
	/* Slurm sets 1 for a failure of its own; it is no signal, says slurmdbd */
	_set_number_32(enc, JC_FIELD_EXIT_CODE,
		       (job_ptr->exit_code == 1) ? 256 : job_ptr->exit_code);
	_set_number_32(enc, JC_FIELD_DERIVED_EXIT_CODE, job_ptr->derived_ec);
}

static void _set_resources(struct job_encoding *enc,
			   const job_record_t *job_ptr, bool ran)
{
	const jc_job_details_t *details = job_ptr->details;
	uint32_t nodes = job_ptr->total_nodes, cpus = job_ptr->total_cpus;

	if (!ran && !nodes && details)
		nodes = details->min_nodes;
	if (!ran && !cpus && details)
		cpus = details->min_cpus;
	_set_number_32(enc, JC_FIELD_NODE_COUNT, nodes);
	_set_number_32(enc, JC_FIELD_CPU_COUNT, cpus);
	_set_text(enc, JC_FIELD_NODES, job_ptr->nodes);
	_set_text(enc, JC_FIELD_TRES_REQ, job_ptr->tres_fmt_req_str);
	_set_text(enc, JC_FIELD_TRES_ALLOC, job_ptr->tres_fmt_alloc_str);
	_set_number_32(enc, JC_FIELD_PRIORITY, job_ptr->priority);
	if (job_ptr->time_limit == NO_VAL) {
		enc->record.limit_kind = JC_LIMIT_PARTITION;
	} else if (job_ptr->time_limit == INFINITE) {
		enc->record.limit_kind = JC_LIMIT_UNLIMITED;
	} else {
		enc->record.limit_kind = JC_LIMIT_MINUTES;
		enc->record.time_limit = job_ptr->time_limit;
	}
	/* where it ran and with what, not all that would have done */
	_set_text(enc, JC_FIELD_PARTITION,
		  (ran && job_ptr->part_ptr && job_ptr->part_ptr->name) ?
		  job_ptr->part_ptr->name : job_ptr->partition);
	if (details) {
		_set_text(enc, JC_FIELD_WORK_DIR, details->work_dir);
		_set_text(enc, JC_FIELD_FEATURES,
			  (ran && details->features_use) ?
			  details->features_use : details->features);
	}
}

/* In the order of schema/record.json. */
static void _add_extra(struct job_encoding *enc, const job_record_t *job_ptr)
{
	static const jc_job_details_t none = {
		.num_tasks = NO_VAL,
		.ntasks_per_node = NO_VAL16,
		.cpus_per_task = NO_VAL16,
	};
	const jc_job_details_t *details = job_ptr->details ?
					    job_ptr->details : &none;

	_add_text(enc, "std_in", details->std_in, JC_EXTRA_STD_IN_MAX_BYTES);
	_add_text(enc, "std_out", details->std_out,
		  JC_EXTRA_STD_OUT_MAX_BYTES);
	_add_text(enc, "std_err", details->std_err,
		  JC_EXTRA_STD_ERR_MAX_BYTES);
	_add_text(enc, "comment", job_ptr->comment,
		  JC_EXTRA_COMMENT_MAX_BYTES);
	_add_text(enc, "admin_comment", job_ptr->admin_comment,
		  JC_EXTRA_ADMIN_COMMENT_MAX_BYTES);
	_add_text(enc, "system_comment", job_ptr->system_comment,
		  JC_EXTRA_SYSTEM_COMMENT_MAX_BYTES);
	_add_text(enc, "container", job_ptr->container,
		  JC_EXTRA_CONTAINER_MAX_BYTES);
	_add_text(enc, "licenses", job_ptr->licenses,
		  JC_EXTRA_LICENSES_MAX_BYTES);
	_add_text(enc, "dependency", details->orig_dependency,
		  JC_EXTRA_DEPENDENCY_MAX_BYTES);
	_add_text(enc, "alloc_node", job_ptr->alloc_node,
		  JC_EXTRA_ALLOC_NODE_MAX_BYTES);
	_add_text(enc, "failed_node", JOB_FAILED_NODE(job_ptr),
		  JC_EXTRA_FAILED_NODE_MAX_BYTES);
	_add_text(enc, "excluded_nodes", details->exc_nodes,
		  JC_EXTRA_EXCLUDED_NODES_MAX_BYTES);
	_add_text(enc, "submit_line", details->submit_line,
		  JC_EXTRA_SUBMIT_LINE_MAX_BYTES);
	_add_text(enc, "state_desc", job_ptr->state_desc,
		  JC_EXTRA_STATE_DESC_MAX_BYTES);
	_add_text(enc, "mcs_label", job_ptr->mcs_label,
		  JC_EXTRA_MCS_LABEL_MAX_BYTES);
	if (details->num_tasks && (details->num_tasks != NO_VAL) &&
	    (details->num_tasks != INFINITE))
		_add_number(enc, "ntasks", details->num_tasks);
	_add_number_16(enc, "ntasks_per_node", details->ntasks_per_node);
	_add_number_16(enc, "cpus_per_task", details->cpus_per_task);
	if (enc->orig_start)
		_add_number(enc, "orig_start", (uint64_t) enc->orig_start);
	if (job_ptr->tot_sus_time > 0)
		_add_number(enc, "suspended", (uint64_t) job_ptr->tot_sus_time);
	if (((job_ptr->job_state & JOB_STATE_BASE) == JOB_CANCELLED) &&
	    (job_ptr->requid != INFINITE))
		_add_number(enc, "cancelled_by", job_ptr->requid);
	if (enc->truncated_len)
		enc->extra[enc->extra_count++] = (struct extra_pair) {
			.key = "truncated",
			.text = { enc->truncated,
				  (uint32_t) enc->truncated_len },
		};
}

static void _write_extra(struct mp_writer *w, const struct job_encoding *enc)
{
	mp_write_map(w, enc->extra_count);
	for (uint32_t i = 0; i < enc->extra_count; i++) {
		const struct extra_pair *pair = &enc->extra[i];

		mp_write_str(w, pair->key, strlen(pair->key));
		if (pair->text.p)
			mp_write_str(w, pair->text.p, pair->text.n);
		else
			mp_write_uint(w, pair->number);
	}
}

/* Says where the sender finds the nil that it puts a name in place of. */
static void _find_names(const struct job_encoding *enc, const uint8_t *payload,
			size_t len, struct ring_rec_head *head)
{
	struct mp_reader reader;
	struct mp_value value;

	mp_reader_init(&reader, payload, len);
	(void) mp_read(&reader, &value); /* the array's head */
	for (int i = 0; i < JC_FIELD_USER; i++)
		(void) mp_read(&reader, &value);
	if (!enc->record.string[JC_FIELD_USER].p)
		head->user_at = (uint16_t) (reader.pos - payload);
	(void) mp_read(&reader, &value);
	if (!enc->record.string[JC_FIELD_GROUP].p)
		head->group_at = (uint16_t) (reader.pos - payload);
}

extern bool job_record_encode(const job_record_t *job_ptr, const char *cluster,
			      time_t now, uint8_t *to, size_t room,
			      struct ring_rec_head *head)
{
	struct job_encoding enc;
	struct mp_writer writer;
	bool ran;

	memset(&enc.record, 0, sizeof(enc.record));
	enc.extra_count = 0;
	enc.orig_start = 0;
	enc.truncated_len = 0;
	_set_ids(&enc, job_ptr);
	_set_names(&enc, job_ptr, cluster);
	ran = _set_times(&enc, job_ptr, now);
	_set_outcome(&enc, job_ptr);
	_set_resources(&enc, job_ptr, ran);
	_add_extra(&enc, job_ptr);

	mp_writer_init(&writer, to, room);
	jc_record_encode_fields(&writer, &enc.record);
	_write_extra(&writer, &enc);
	if (writer.full)
		return false;
	*head = (struct ring_rec_head) {
		.len = (uint32_t) (writer.pos - to),
		.job_id = job_ptr->job_id,
		.uid = job_ptr->user_id,
		.gid = job_ptr->group_id,
	};
	_find_names(&enc, to, head->len, head);
	return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "query_het.h"

static bool _is(const struct jc_record *record, enum jc_field_position field,
		uint32_t value)
{
	return record->number[field].known &&
	       (record->number[field].value == value);
}

extern void het_init(struct het *het, const slurmdb_job_cond_t *job_cond)
{
	memset(het, 0, sizeof(*het));
	if (!job_cond || !job_cond->step_list ||
	    !list_count(job_cond->step_list))
		return;
	het->steps = job_cond->step_list;
	het->whole = job_cond->flags & JOBCOND_FLAG_WHOLE_HETJOB;
	het->alone = job_cond->flags & JOBCOND_FLAG_NO_WHOLE_HETJOB;
}

extern void het_note(struct het *het, const struct jc_record *record)
{
	if (!record->number[JC_FIELD_HET_JOB_ID].known)
		return;
	if (het->count == het->size) {
		het->size = het->size ? het->size * 2 : 16;
		xrealloc(het->leaders, het->size * sizeof(*het->leaders));
	}
	het->leaders[het->count++] =
		(uint32_t) record->number[JC_FIELD_HET_JOB_ID].value;
}

/* Did this element of -j mean the record? The store said that one did. */
static int _means(void *object, void *key)
{
	const slurm_selected_step_t *step = object;
	const struct jc_record *record = key;
	uint32_t id = step->step_id.job_id;

	if (step->het_job_offset != NO_VAL)
		return _is(record, JC_FIELD_HET_JOB_ID, id) &&
		       _is(record, JC_FIELD_HET_JOB_OFFSET,
			   step->het_job_offset);
	return _is(record, JC_FIELD_JOB_ID, id) ||
	       _is(record, JC_FIELD_ARRAY_JOB_ID, id);
}

extern bool het_keeps(const struct het *het, const struct jc_record *record)
{
	if (!het->alone || !record->number[JC_FIELD_HET_JOB_ID].known)
		return true;
	return list_find_first(het->steps, _means, (void *) record) != NULL;
}

extern void het_add_leaders(const struct het *het, struct criteria *criteria)
{
	for (size_t i = 0; i < het->count; i++)
		criteria_add(criteria, "job",
			     xstrdup_printf("%u", het->leaders[i]));
}

extern void het_free(struct het *het)
{
	xfree(het->leaders);
	memset(het, 0, sizeof(*het));
}

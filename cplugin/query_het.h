/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sacct --whole-hetjob. With yes, the id of any part stands for the whole
 * heterogeneous job, whose leader must be looked up first; with no, a plain id
 * means that one job and not the parts it leads.
 */
#ifndef JOBCOMP_REDIS_QUERY_HET_H
#define JOBCOMP_REDIS_QUERY_HET_H

#include "criteria.h"
#include "record.h"

struct het {
	jc_list_t *steps;  /* what -j named; NULL: nothing to do */
	bool whole, alone; /* yes, no */
	bool looking_up;   /* records tell leaders, they are no answer yet */
	uint32_t *leaders;
	size_t count, size;
};

extern void het_init(struct het *het, const slurmdb_job_cond_t *job_cond);

/* Notes whose part that record is. */
extern void het_note(struct het *het, const struct jc_record *record);

/* Whether the record is among what =no leaves. */
extern bool het_keeps(const struct het *het, const struct jc_record *record);

/* Adds the leaders that were noted to the question. */
extern void het_add_leaders(const struct het *het, struct criteria *criteria);

extern void het_free(struct het *het);

#endif

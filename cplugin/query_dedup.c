/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>

#include "query_dedup.h"

#define GONE 0 /* no job has this id */

static bool _same_job(const jobcomp_job_rec_t *a, const jobcomp_job_rec_t *b)
{
	return (a->jobid == b->jobid) && !xstrcmp(a->cluster, b->cluster);
}

static bool _resized(const jobcomp_job_rec_t *row)
{
	return !xstrcmp(row->state, "RESIZING");
}

/* Times are in the form "uts<n>", see query_row.c. */
static long long _submitted(const jobcomp_job_rec_t *row)
{
	return strncmp(row->submit_time, "uts", 3) ? 0 :
	       strtoll(row->submit_time + 3, NULL, 10);
}

static jobcomp_job_rec_t **_slot(struct dedup *dedup,
				 const jobcomp_job_rec_t *row)
{
	size_t i = (size_t) row->jobid * 2654435761u;

	for (;; i++) {
		jobcomp_job_rec_t **slot = &dedup->slots[i & (dedup->size - 1)];

		if (!*slot || _same_job(*slot, row))
			return slot;
	}
}

static void _grow(struct dedup *dedup)
{
	struct dedup larger = {
		.size = dedup->size ? dedup->size * 2 : 1024,
	};

	larger.slots = xcalloc(larger.size, sizeof(*larger.slots));
	for (size_t i = 0; i < dedup->size; i++)
		if (dedup->slots[i])
			*_slot(&larger, dedup->slots[i]) = dedup->slots[i];
	xfree(dedup->slots);
	dedup->slots = larger.slots;
	dedup->size = larger.size;
}

extern void dedup_add(struct dedup *dedup, jobcomp_job_rec_t *row)
{
	jobcomp_job_rec_t **slot, *older;

	if (_resized(row))
		return;
	if ((dedup->used + 1) * 2 > dedup->size)
		_grow(dedup);
	slot = _slot(dedup, row);
	older = *slot;
	if (!older) {
		dedup->used++;
		*slot = row;
		return;
	}
	/* of the same second the later completion counts */
	if (_submitted(row) >= _submitted(older)) {
		*slot = row;
		older->jobid = GONE;
	} else {
		row->jobid = GONE;
	}
	dedup->found = true;
}

static int _is_gone(void *row, void *key)
{
	(void) key;
	return ((jobcomp_job_rec_t *) row)->jobid == GONE;
}

extern void dedup_finish(struct dedup *dedup, jc_list_t *jobs)
{
	if (dedup->found)
		(void) list_delete_all(jobs, _is_gone, NULL);
	xfree(dedup->slots);
	memset(dedup, 0, sizeof(*dedup));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>

#include "query_dedup.h"

#define GONE 0 /* no job has this id */
#define BLOCK 64 /* a power of two, no more than the first size */

static bool _same_cluster(const jobcomp_job_rec_t *a,
			  const jobcomp_job_rec_t *b)
{
	return (a->cluster == b->cluster) || !xstrcmp(a->cluster, b->cluster);
}

static bool _resized(const jobcomp_job_rec_t *row)
{
	return !xstrcmp(row->state, "RESIZING");
}

static bool _revoked(const jobcomp_job_rec_t *row)
{
	return !xstrcmp(row->state, "REVOKED");
}

/* Times are in the form "uts<n>", see query_row.c. */
static long long _submitted(const jobcomp_job_rec_t *row)
{
	return strncmp(row->submit_time, "uts", 3) ? 0 :
	       strtoll(row->submit_time + 3, NULL, 10);
}

/*
 * Ids that follow each other lie side by side, because a search of everything
 * comes by them in about that order; blocks of them are strewn. The step is
 * odd, so that it gets to every slot.
 */
static struct dedup_slot *_slot(struct dedup *dedup, uint32_t jobid,
				const jobcomp_job_rec_t *row)
{
	size_t i = ((size_t) (jobid / BLOCK) * 2654435761u) * BLOCK +
		   jobid % BLOCK;

	for (;; i += BLOCK + 1) {
		struct dedup_slot *slot = &dedup->slots[i & (dedup->size - 1)];

		if (!slot->row || ((slot->jobid == jobid) &&
				   _same_cluster(slot->row, row)))
			return slot;
	}
}

static void _grow(struct dedup *dedup)
{
	struct dedup larger = {
		.size = dedup->size ? dedup->size * 2 : 1024,
	};

	larger.slots = xcalloc(larger.size, sizeof(*larger.slots));
	for (size_t i = 0; i < dedup->size; i++) {
		const struct dedup_slot *slot = &dedup->slots[i];

		if (slot->row)
			*_slot(&larger, slot->jobid, slot->row) = *slot;
	}
	xfree(dedup->slots);
	dedup->slots = larger.slots;
	dedup->size = larger.size;
}

extern void dedup_add(struct dedup *dedup, jobcomp_job_rec_t *row)
{
	struct dedup_slot *slot;
	jobcomp_job_rec_t *older;

	if (_resized(row))
		return;
	if (_revoked(row)) {
		row->jobid = GONE;
		dedup->found = true;
		return;
	}
	if ((dedup->used + 1) * 2 > dedup->size)
		_grow(dedup);
	slot = _slot(dedup, row->jobid, row);
	older = slot->row;
	if (!older) {
		dedup->used++;
		*slot = (struct dedup_slot) {
			.row = row,
			.jobid = row->jobid,
		};
		return;
	}
	/* of the same second the later completion counts */
	if (_submitted(row) >= _submitted(older)) {
		slot->row = row;
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "plog.h"
#include "source.h"

/* Writes the numbering to where it has to survive; false: not to the file. */
static bool _save_numbering(struct source *source)
{
	bool saved = true;

	if (source->spill &&
	    !spill_renumber(source->spill, source->generation,
			    source->base_seq)) {
		saved = false;
		plog_error("can't write the header of spill file %s: %s",
			   source->spill->path, strerror(errno));
	}
	if (source->ring) {
		source->ring->tail.generation = source->generation;
		source->ring->tail.base_seq = source->base_seq;
		ring_save_tail(source->ring);
	}
	return saved;
}

/* Frees ring records that the spill file has too: a kill came in between. */
static void _skip_spilled(struct source *source)
{
	struct ring_cursor cursor = ring_first(source->ring);
	struct ring_cursor last = cursor;
	struct ring_rec_head head;
	const uint8_t *payload;

	while ((cursor.seq < source->spill->end.seq) &&
	       (ring_read(source->ring, &cursor, &head, &payload) !=
		RING_EMPTY) && (cursor.seq <= source->spill->end.seq))
		last = cursor;
	if (last.pos != source->ring->tail.pos)
		ring_free(source->ring, &last);
}

extern void source_init(struct source *source, struct ring *ring,
			struct spill *spill)
{
	memset(source, 0, sizeof(*source));
	source->ring = ring;
	source->spill = spill;
	if (ring) {
		source->generation = ring->tail.generation;
		source->base_seq = ring->tail.base_seq;
	}
	if (spill && (spill->generation > source->generation)) {
		source->generation = spill->generation;
		source->base_seq = spill->base_seq;
	}
	if (ring && spill && spill->records)
		_skip_spilled(source);
}

extern void source_close(struct source *source)
{
	spill_close(source->spill);
	ring_close(source->ring);
	memset(source, 0, sizeof(*source));
}

extern void source_name(const struct source *source,
			char name[SOURCE_NAME_BYTES])
{
	snprintf(name, SOURCE_NAME_BYTES, "%s.%u",
		 source->ring ? source->ring->id : source->spill->id,
		 source->generation);
}

static bool _spill_holds(const struct source *source)
{
	return source->spill &&
	       (source->spill->first.pos < source->spill->end.pos);
}

extern struct source_cursor source_first(const struct source *source)
{
	struct source_cursor cursor = { .in_ring = !_spill_holds(source) };

	if (!cursor.in_ring)
		cursor.at = source->spill->first;
	else if (source->ring)
		cursor.at = ring_first(source->ring);
	else
		cursor.at.seq = source->spill->end.seq;
	return cursor;
}

extern uint64_t source_wire_seq(const struct source *source,
				const struct source_cursor *cursor)
{
	return cursor->at.seq - source->base_seq;
}

extern enum ring_read_result source_read(struct source *source,
					 struct source_cursor *cursor,
					 struct ring_rec_head *head,
					 const uint8_t **payload)
{
	enum ring_read_result result;

	if (!cursor->in_ring) {
		/* the file goes when its last record is acknowledged */
		result = source->spill ?
			 spill_read(source->spill, &cursor->at, head, payload) :
			 RING_EMPTY;
		if (result != RING_EMPTY)
			return result;
		if (source->ring) {
			struct ring_cursor next = ring_first(source->ring);
			bool hole = next.seq > cursor->at.seq;

			cursor->in_ring = true;
			cursor->at = next;
			if (hole)
				return RING_HOLE;
		}
	}
	if (!source->ring)
		return RING_EMPTY;
	return ring_read(source->ring, &cursor->at, head, payload);
}

extern void source_free(struct source *source,
			const struct source_cursor *cursor)
{
	if (_spill_holds(source)) {
		struct ring_cursor to = cursor->in_ring ? source->spill->end :
					cursor->at;

		spill_free(source->spill, &to);
	}
	if (cursor->in_ring && source->ring &&
	    (cursor->at.pos != source->ring->tail.pos))
		ring_free(source->ring, &cursor->at);
	if (source->spill && source->ring && !_spill_holds(source)) {
		spill_close(source->spill);
		source->spill = NULL;
	}
}

extern bool source_empty(const struct source *source)
{
	return !_spill_holds(source) &&
	       (!source->ring || !ring_used(source->ring));
}

extern uint64_t source_wire_end(const struct source *source)
{
	uint64_t next = source->ring ? atomic_load(&source->ring->next_seq) :
			source->spill->end.seq;

	return next - source->base_seq;
}

extern struct source_counters source_counters(const struct source *source,
					      uint64_t end_seq)
{
	const struct ring *ring = source->ring;
	struct source_counters counters = { 0 };
	uint64_t dropped;
	uint64_t taken = end_seq ? end_seq - source->base_seq - 1 :
			 source_wire_end(source) - 1;

	if (!ring) {
		counters.attempted = taken;
		counters.spilled = counters.attempted;
		return counters;
	}
	dropped = atomic_load(&ring->dropped) - ring->tail.base_dropped;
	counters.attempted = taken + dropped;
	counters.dropped = dropped + ring->tail.lost;
	counters.spilled = ring->tail.spilled - ring->tail.base_spilled;
	counters.last_dropped_job = atomic_load(&ring->last_dropped_job);
	return counters;
}

static void _next_generation(struct source *source, uint64_t base_seq)
{
	struct ring *ring = source->ring;

	source->generation++;
	source->base_seq = base_seq;
	source->told_ms = 0;
	source->told_dropped = 0;
	if (ring) {
		ring->tail.base_dropped = atomic_load(&ring->dropped);
		ring->tail.base_spilled = ring->tail.spilled;
		ring->tail.lost = 0;
	}
	(void) _save_numbering(source);
}

extern void source_count_lost(struct source *source, uint64_t lost)
{
	if (!source->ring)
		return;
	source->ring->tail.lost += lost;
	ring_save_tail(source->ring);
}

extern void source_give_up(struct source *source,
			   const struct source_cursor *cursor)
{
	source_free(source, cursor);
	_next_generation(source, cursor->at.seq - 1);
}

extern void source_renumber(struct source *source)
{
	struct source_cursor first = source_first(source);

	_next_generation(source, first.at.seq - 1);
}

extern bool source_spill(struct source *source, const char *dir,
			 uint64_t max_bytes, uint64_t keep)
{
	struct ring *ring = source->ring;
	struct ring_cursor cursor = ring_first(ring), done = cursor;
	uint64_t stop_at = atomic_load(&ring->head_pos) - keep;
	enum spill_result result = SPILL_OK;
	char why[4400];

	if (!source->spill) {
		source->spill = spill_open(dir, ring->id, true, max_bytes, why,
					   sizeof(why));
		if (!source->spill) {
			plog_error("%s", why);
			errno = EIO;
			return false;
		}
	}
	/* records in a file without a header would be set aside with it */
	if (!source->spill->slot && !_save_numbering(source)) {
		errno = EIO;
		return false;
	}
	while ((cursor.pos < stop_at) && (result == SPILL_OK)) {
		struct ring_rec_head head;
		const uint8_t *payload;

		/* a hole ends a spill: it starts a generation when it is sent */
		if (ring_read(ring, &cursor, &head, &payload) != RING_RECORD)
			break;
		result = spill_append(source->spill, &head, payload);
		if (result == SPILL_OK)
			done = cursor;
	}
	if (result != SPILL_ERROR) {
		enum spill_result synced = spill_sync(source->spill);

		if (synced != SPILL_OK)
			result = synced;
	}
	if (result == SPILL_ERROR) {
		int saved = errno;

		_skip_spilled(source);
		errno = saved;
		return false;
	}
	ring->tail.spilled += done.seq - ring->tail.seq;
	ring_free(ring, &done);
	errno = 0;
	return result == SPILL_OK;
}

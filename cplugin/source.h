/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A source: one numbering of records on the wire, made of a spill file (its
 * oldest records), a ring (the rest), or both. Reads them as one sequence.
 *
 * On the wire a source is called <ring id>.<generation> and its records are
 * numbered from 1 without holes. When a hole can't be avoided (damaged bytes,
 * a record the daemon won't take, a daemon that forgot what it had) the rest
 * goes out as the next generation, numbered from 1 again.
 */
#ifndef JOBCOMP_REDIS_SOURCE_H
#define JOBCOMP_REDIS_SOURCE_H

#include "ring.h"
#include "spill.h"

#define SOURCE_NAME_BYTES (RING_ID_BYTES + 16)

struct source {
	struct ring *ring;   /* NULL: only a spill file is left */
	struct spill *spill; /* NULL: nothing is spilled */
	uint32_t generation;
	uint64_t base_seq;
	/* what the daemon was told of the counters last */
	uint64_t told_dropped;
	int64_t told_ms;
};

struct source_cursor {
	bool in_ring;
	struct ring_cursor at;
};

/* Counters as SLURMJC.RING carries them, of this generation. */
struct source_counters {
	uint64_t attempted;
	uint64_t dropped;
	uint64_t spilled;
	uint32_t last_dropped_job;
};

/* Takes both (either may be NULL) and settles what they disagree on. */
extern void source_init(struct source *source, struct ring *ring,
			struct spill *spill);
extern void source_close(struct source *source);

extern void source_name(const struct source *source,
			char name[SOURCE_NAME_BYTES]);

extern struct source_cursor source_first(const struct source *source);
extern uint64_t source_wire_seq(const struct source *source,
				const struct source_cursor *cursor);
extern enum ring_read_result source_read(struct source *source,
					 struct source_cursor *cursor,
					 struct ring_rec_head *head,
					 const uint8_t **payload);
extern void source_free(struct source *source,
			const struct source_cursor *cursor);
extern bool source_empty(const struct source *source);

/* The sequence number the next record of the hook will get, on the wire. */
extern uint64_t source_wire_end(const struct source *source);

/*
 * With end_seq as of a generation that ends before that record, with 0 as of one
 * that goes on.
 */
extern struct source_counters source_counters(const struct source *source,
					      uint64_t end_seq);

/* Counts records that will never be delivered, in this generation. */
extern void source_count_lost(struct source *source, uint64_t lost);

/*
 * What lies between the first record and cursor is given up: the rest starts a
 * new generation at cursor.
 */
extern void source_give_up(struct source *source,
			   const struct source_cursor *cursor);

/* A new generation from the first record on; nothing is given up. */
extern void source_renumber(struct source *source);

/*
 * Moves the ring's oldest records to the spill file in dir until the ring
 * holds at most keep bytes. False when that failed; errno is 0 when the file is
 * as large as it may be.
 */
extern bool source_spill(struct source *source, const char *dir,
			 uint64_t max_bytes, uint64_t keep);

#endif

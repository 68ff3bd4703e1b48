/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The spill file: where the sender puts the ring's oldest records when the
 * daemon stays away and the ring fills. It lies in StateSaveLocation and goes
 * on the wire before the ring, under the same source and numbering; it also
 * carries records over a reboot, which empties the ring's tmpfs.
 *
 * One header page with the source in two checked copies, then records as they
 * lie in the ring, header and payload, each a multiple of RING_ALIGN bytes. The
 * file is locked with flock() while a process works on it, and removed when
 * everything in it is acknowledged.
 */
#ifndef JOBCOMP_REDIS_SPILL_H
#define JOBCOMP_REDIS_SPILL_H

#include "ring.h"

#define SPILL_PREFIX "jobcomp_redis."
#define SPILL_SUFFIX ".spill"
#define SPILL_HEADER_BYTES 4096

struct spill {
	int fd;
	char path[4096];
	char id[RING_ID_BYTES]; /* of the ring the records came from */
	uint32_t generation;    /* as in struct ring_tail_slot */
	uint64_t base_seq;
	uint64_t slot;          /* which header copy was written last */
	uint64_t max_bytes;
	struct ring_cursor first; /* oldest record not yet freed; pos = offset */
	struct ring_cursor end;   /* behind the last one that is on disk */
	uint64_t records;         /* between the two */
	/* appended, not yet written: buffer[0, buffered) */
	uint8_t *buffer;
	size_t buffered;
	uint64_t next_seq;
	uint64_t buffered_records;
	/* a window on the file for reading */
	uint8_t *window;
	uint64_t window_pos;
	size_t window_bytes;
};

enum spill_result {
	SPILL_OK,
	SPILL_FULL,  /* max_bytes */
	SPILL_ERROR, /* errno says what */
};

/*
 * Opens dir's spill file of that ring, creating it when create is set. Returns
 * NULL with a sentence in why when there is none, it is locked by another
 * process, or it is damaged (then it was set aside). Whole records before a torn
 * end are kept.
 */
extern struct spill *spill_open(const char *dir, const char *id, bool create,
				uint64_t max_bytes, char *why,
				size_t why_size);

/* Closes the file and forgets it; removes it when it is empty. */
extern void spill_close(struct spill *spill);

/* Appends to the buffer; spill_sync makes it permanent. */
extern enum spill_result spill_append(struct spill *spill,
				      const struct ring_rec_head *head,
				      const uint8_t *payload);

/* Writes and fsyncs what was appended. On SPILL_ERROR none of it counts. */
extern enum spill_result spill_sync(struct spill *spill);

/* As ring_read. The payload is good until the next call. */
extern enum ring_read_result spill_read(struct spill *spill,
					struct ring_cursor *cursor,
					struct ring_rec_head *head,
					const uint8_t **payload);

/* Frees what lies before the cursor; truncates the file when that is all. */
extern void spill_free(struct spill *spill, const struct ring_cursor *cursor);

/* Changes the numbering in the header; false when that can't be written. */
extern bool spill_renumber(struct spill *spill, uint32_t generation,
			   uint64_t base_seq);

#endif

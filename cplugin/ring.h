/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring: records between the hook and the sender, in a file on tmpfs.
 *
 * One process owns a ring at a time, by an flock() that the kernel drops when
 * the process dies or execs. Inside that process one thread appends (the hook,
 * under Slurm's own lock) and one removes (the sender). Since two processes
 * never share a ring, an old slurmctld that overlaps with its successor keeps
 * writing to its own ring, and the successor adopts that ring once the lock is
 * free: nothing has to be fenced.
 *
 * What must survive the process is in the file: records, each with its length,
 * sequence number and CRC-32C, and the two ends, each written alternately to
 * one of two slots with a CRC. A process killed between two instructions
 * leaves at most one slot half written; the other still holds the state before.
 *
 * Positions count bytes since the ring was made and never wrap; the place in
 * the data area is position % data_bytes. Sequence numbers start at 1.
 */
#ifndef JOBCOMP_REDIS_RING_H
#define JOBCOMP_REDIS_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_ID_BYTES 48
#define RING_HEADER_BYTES 4096
#define RING_ALIGN 32
#define RING_DROPS_KEPT 64 /* job ids, for the log */
#define RING_RECORD_MAGIC 0x524a4353u /* "SCJR" */
#define RING_PAD_MAGIC 0x504a4353u    /* "SCJP": go on at the start */

/* Before each record, in the ring and in the spill file. */
struct ring_rec_head {
	uint32_t magic;
	uint32_t crc;      /* of everything behind this field, payload too */
	uint32_t len;      /* payload bytes */
	uint32_t job_id;
	uint64_t seq;
	uint32_t uid;
	uint32_t gid;
	uint16_t user_at;  /* payload offset of the nil to be replaced by the */
	uint16_t group_at; /* user's, group's name; 0: leave the record alone */
	uint16_t flags;    /* RING_REC_* */
	uint16_t unused;
};

#define RING_REC_WANT_SCRIPT 0x0001 /* sender adds the job script */

/* Who the ring is, twice in the header. */
struct ring_ident {
	char magic[8];
	uint32_t format;
	uint32_t header_bytes;
	uint64_t data_bytes;
	char id[RING_ID_BYTES];
	uint32_t unused;
	uint32_t crc;
};

/* The producer's end. */
struct ring_head_slot {
	uint64_t n; /* the larger n is the newer slot */
	uint64_t pos;
	uint64_t next_seq;
	uint64_t dropped;
	uint32_t last_dropped_job;
	uint32_t crc;
};

/* The consumer's end, and how its sequence numbers go out on the wire. */
struct ring_tail_slot {
	uint64_t n;
	uint64_t pos;
	uint64_t seq;          /* first one not yet freed */
	uint64_t spilled;      /* records that went through the spill file */
	uint64_t lost;         /* records that were found damaged */
	uint64_t base_seq;     /* wire number = seq - base_seq */
	uint64_t base_dropped; /* dropped + lost when this numbering began */
	uint64_t base_spilled;
	uint32_t generation;   /* of the wire numbering, from 1 */
	uint32_t crc;
};

struct ring {
	/* set once, by ring_open */
	int fd; /* -1: private memory, nothing survives */
	char path[256];
	char id[RING_ID_BYTES];
	uint8_t *map;
	size_t map_bytes;
	uint8_t *data;
	uint64_t size; /* of data */

	/* the producer's own */
	struct ring_head_slot head;
	uint64_t reserved_pos;

	/* the consumer's own */
	struct ring_tail_slot tail;

	/* what each tells the other */
	_Alignas(64) _Atomic uint64_t head_pos;
	_Atomic uint64_t next_seq;
	_Atomic uint64_t dropped;
	_Atomic uint32_t last_dropped_job;
	_Atomic uint32_t dropped_jobs[RING_DROPS_KEPT]; /* by dropped % that */
	_Alignas(64) _Atomic uint64_t tail_pos;
};

enum ring_open_result {
	RING_OPENED,
	RING_BUSY,    /* another process owns it */
	RING_DAMAGED, /* set aside, *why says under what name */
	RING_FAILED,  /* *why says what the system refused */
};

/*
 * Opens or creates the ring at path and takes its lock. data_bytes is the
 * size of a new ring (and of an empty one that is opened as own); id is a
 * new ring's name. why holds a sentence unless RING_OPENED.
 */
extern enum ring_open_result ring_open(struct ring **ring, const char *path,
				       uint64_t data_bytes, const char *id,
				       bool own, char *why, size_t why_size);

/*
 * True when there is no ring at path, or one that plainly holds no record. A
 * quick look without its lock, for deciding whether to open it.
 */
extern bool ring_file_empty(const char *path);

/* A ring in private memory, for when no directory takes one. NULL: no memory. */
extern struct ring *ring_private(uint64_t data_bytes, const char *id);

/* Gives up the lock and the memory; the file stays. */
extern void ring_close(struct ring *ring);

/* ---- producer ---- */

/*
 * The place for the next record's payload and how many bytes it may have, 0
 * when there is no room at all. With wrapped the place at the start of the data
 * area, for a payload that did not fit before its end.
 */
extern uint8_t *ring_reserve(struct ring *ring, bool wrapped, size_t *room);

/*
 * Makes the payload of head->len bytes at the reserved place a record. Fills
 * in magic, seq and crc. From here on it survives the process.
 */
extern void ring_commit(struct ring *ring, const struct ring_rec_head *head);

/* Counts a record that found no room. */
extern void ring_drop(struct ring *ring, uint32_t job_id);

/* ---- consumer ---- */

struct ring_cursor {
	uint64_t pos;
	uint64_t seq; /* the record expected at pos */
	/* records before this number are known to be whole: their sums are
	 * not computed once more */
	uint64_t whole_to;
};

enum ring_read_result {
	RING_RECORD,
	RING_EMPTY,
	RING_HOLE, /* damage: cursor stands at the next whole record, or the end */
};

extern struct ring_cursor ring_first(const struct ring *ring);

/*
 * Reads the record at the cursor and moves on. head and *payload point into
 * the ring until the record is freed. After RING_HOLE cursor->seq is that of
 * the next whole record (or the next one to be written).
 */
extern enum ring_read_result ring_read(struct ring *ring,
				       struct ring_cursor *cursor,
				       struct ring_rec_head *head,
				       const uint8_t **payload);

/* Frees everything before the cursor. */
extern void ring_free(struct ring *ring, const struct ring_cursor *cursor);

/* Writes ring->tail, which the caller changed, to the file. */
extern void ring_save_tail(struct ring *ring);

/* Bytes between the ends. */
extern uint64_t ring_used(const struct ring *ring);

/* True when what is at head looks like a record of at most room bytes. */
extern bool ring_rec_fits(const struct ring_rec_head *head,
			  const uint8_t *payload, uint64_t room);

/* ... and its sum says that it is whole. */
extern bool ring_rec_valid(const struct ring_rec_head *head,
			   const uint8_t *payload, uint64_t room);

/* Bytes a record takes up. */
static inline uint64_t ring_rec_bytes(uint32_t len)
{
	return (sizeof(struct ring_rec_head) + (uint64_t) len +
		RING_ALIGN - 1) & ~(uint64_t) (RING_ALIGN - 1);
}

#endif

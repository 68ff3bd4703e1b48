/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Creating a ring file, and taking over one that another process left. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crc32c.h"
#include "plog.h"
#include "ring.h"
#include "ring_layout.h"

#define CRC_OF(slot) crc32c((slot), sizeof(*(slot)) - sizeof((slot)->crc))
#define MAX_DATA_BYTES ((uint64_t) 4 << 30)

static bool _ident_valid(const struct ring_ident *ident)
{
	return !memcmp(ident->magic, RING_FILE_MAGIC, sizeof(ident->magic)) &&
	       (ident->crc == CRC_OF(ident)) &&
	       (ident->format == RING_FILE_FORMAT) &&
	       (ident->header_bytes == RING_HEADER_BYTES) &&
	       ident->data_bytes && !(ident->data_bytes % RING_ALIGN) &&
	       (ident->data_bytes <= MAX_DATA_BYTES) &&
	       memchr(ident->id, '\0', sizeof(ident->id)) && ident->id[0];
}

static int _map(struct ring *ring, uint64_t data_bytes)
{
	void *map;

	ring->map_bytes = RING_HEADER_BYTES + data_bytes;
	/*
	 * Populated: a page fault costs the hook more than all else it does,
	 * and one that finds tmpfs full would be a SIGBUS.
	 */
	map = mmap(NULL, ring->map_bytes, PROT_READ | PROT_WRITE,
		   MAP_POPULATE | ((ring->fd < 0) ?
				   MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED),
		   ring->fd, 0);
	if (map == MAP_FAILED)
		return errno;
	/* slurmctld forks; a child must not hold, let alone change, the ring */
	(void) madvise(map, ring->map_bytes, MADV_DONTFORK);
	ring->map = map;
	ring->data = ring->map + RING_HEADER_BYTES;
	ring->size = data_bytes;
	return 0;
}

/* Fills the header of an empty ring; the identity last, it makes it valid. */
static void _format(struct ring *ring, const char *id)
{
	struct ring_header *header = ring_header(ring);
	struct ring_ident ident = {
		.magic = RING_FILE_MAGIC,
		.format = RING_FILE_FORMAT,
		.header_bytes = RING_HEADER_BYTES,
		.data_bytes = ring->size,
	};

	ring->head.pos = ring->tail.pos = 0;
	if (!ring->head.next_seq)
		ring->head.next_seq = ring->tail.seq = 1;
	if (!ring->tail.generation)
		ring->tail.generation = 1;
	for (int i = 0; i < 2; i++) {
		ring_save_head(ring);
		ring_save_tail(ring);
	}
	snprintf(ident.id, sizeof(ident.id), "%s", id);
	ident.crc = CRC_OF(&ident);
	header->ident[0] = header->ident[1] = ident;
	memcpy(ring->id, ident.id, sizeof(ring->id));
}

static void _publish(struct ring *ring)
{
	atomic_store(&ring->tail_pos, ring->tail.pos);
	atomic_store(&ring->next_seq, ring->head.next_seq);
	atomic_store(&ring->dropped, ring->head.dropped);
	atomic_store(&ring->last_dropped_job, ring->head.last_dropped_job);
	atomic_store(&ring->head_pos, ring->head.pos);
}

/* The newer of two valid slots; false when neither is. */
#define NEWER_SLOT(slots, out)                                              \
	({                                                                  \
		bool valid_0 = (slots)[0].crc == CRC_OF(&(slots)[0]);       \
		bool valid_1 = (slots)[1].crc == CRC_OF(&(slots)[1]);       \
		if (valid_0 && (!valid_1 || ((slots)[0].n > (slots)[1].n))) \
			*(out) = (slots)[0];                                \
		else if (valid_1)                                           \
			*(out) = (slots)[1];                                \
		valid_0 || valid_1;                                         \
	})

static const struct ring_rec_head *_valid_at(const struct ring *ring,
					     uint64_t offset)
{
	const struct ring_rec_head *head =
		(const struct ring_rec_head *) (ring->data + offset);

	return ring_rec_valid(head, (const uint8_t *) (head + 1),
			      ring->size - offset) ? head : NULL;
}

/*
 * One end is unknown (both of its slots are damaged): takes every whole record
 * in the data area. Some may have been delivered already, so they go out under
 * a new numbering; the store keeps one of each.
 */
static void _rescan(struct ring *ring)
{
	uint64_t first = 0, last = 0, last_offset = 0, last_bytes = 0;
	uint64_t offset;

	for (offset = 0; offset < ring->size; offset += RING_ALIGN) {
		const struct ring_rec_head *head = _valid_at(ring, offset);

		if (!head)
			continue;
		if (!first || (head->seq < first))
			first = head->seq;
		if (head->seq > last) {
			last = head->seq;
			last_offset = offset;
			last_bytes = ring_rec_bytes(head->len);
		}
		offset += ring_rec_bytes(head->len) - RING_ALIGN;
	}
	if (ring->head.next_seq < last + 1)
		ring->head.next_seq = last + 1;
	if (ring->tail.seq < first)
		ring->tail.seq = first ? first : ring->head.next_seq;
	/* one lap earlier than the newest record, and on to its end */
	ring->head.pos = ring->size + last_offset + last_bytes;
	ring->tail.pos = last_offset + last_bytes;
	if (!first)
		ring->tail.pos = ring->head.pos = 0;
	for (; ring->tail.pos < ring->head.pos; ring->tail.pos += RING_ALIGN) {
		const struct ring_rec_head *head =
			_valid_at(ring, ring->tail.pos % ring->size);

		if (head && (head->seq >= ring->tail.seq)) {
			ring->tail.seq = head->seq;
			break;
		}
	}
	ring->tail.base_seq = ring->tail.seq - 1;
	ring->tail.base_dropped = ring->head.dropped + ring->tail.lost;
	ring->tail.base_spilled = ring->tail.spilled;
	ring->tail.generation++;
}

/*
 * Records that were whole when the process died but not yet counted in, or
 * whose slot was damaged, are taken in: a record too many is the same run
 * reported once more, one too few is lost.
 */
static void _roll_forward(struct ring *ring)
{
	for (;;) {
		uint64_t used = ring->head.pos - ring->tail.pos;
		uint64_t offset = ring->head.pos % ring->size;
		const struct ring_rec_head *head = (const struct ring_rec_head *)
			(ring->data + offset);
		uint64_t bytes = 0;

		if (head->magic == RING_PAD_MAGIC) {
			bytes = ring->size - offset;
			offset = 0;
		}
		head = _valid_at(ring, offset);
		if (!head || (head->seq != ring->head.next_seq))
			return;
		bytes += ring_rec_bytes(head->len);
		if (used + bytes > ring->size)
			return;
		ring->head.pos += bytes;
		ring->head.next_seq++;
	}
}

/* Positions count bytes since the ring was made: none gets so far, and what is
 * added to them must not wrap. */
#define POS_MAX (UINT64_MAX / 2)

static void _recover(struct ring *ring)
{
	struct ring_header *header = ring_header(ring);
	bool head_known = NEWER_SLOT(header->head, &ring->head);
	bool tail_known = NEWER_SLOT(header->tail, &ring->tail);

	if (!ring->head.next_seq)
		ring->head.next_seq = 1;
	if (!ring->tail.seq)
		ring->tail.seq = 1;
	if (!ring->tail.generation)
		ring->tail.generation = 1;
	if (!head_known || !tail_known ||
	    (ring->tail.pos > ring->head.pos) || (ring->head.pos > POS_MAX) ||
	    (ring->head.pos - ring->tail.pos > ring->size) ||
	    (ring->head.pos % RING_ALIGN) || (ring->tail.pos % RING_ALIGN)) {
		plog_error("ring %s: header damaged, sending every record in it again",
			   ring->path);
		_rescan(ring);
	} else {
		_roll_forward(ring);
	}
	ring_save_head(ring);
	ring_save_head(ring);
	ring_save_tail(ring);
	ring_save_tail(ring);
}

/* Renames a file that is no ring any more; it stays for whoever looks. */
static enum ring_open_result _set_aside(struct ring *ring, char *why,
					size_t why_size)
{
	char aside[sizeof(ring->path) + 32];

	snprintf(aside, sizeof(aside), "%s.damaged-%lld", ring->path,
		 (long long) time(NULL));
	if (rename(ring->path, aside)) {
		snprintf(why, why_size, "%s is no ring file and can't be renamed: %s",
			 ring->path, strerror(errno));
		return RING_FAILED;
	}
	snprintf(why, why_size, "%s is no ring file, set aside as %s",
		 ring->path, aside);
	return RING_DAMAGED;
}

/* Sizes the file and allocates every page of it now. */
static int _allocate(struct ring *ring, uint64_t data_bytes)
{
	off_t bytes = (off_t) (RING_HEADER_BYTES + data_bytes);

	if (ftruncate(ring->fd, 0) || ftruncate(ring->fd, bytes))
		return errno;
	return posix_fallocate(ring->fd, 0, bytes);
}

/* True when the identity's page was never written. */
static bool _never_formatted(const struct ring_ident ident[2])
{
	static const struct ring_ident blank[2];

	return !memcmp(ident, blank, sizeof(blank));
}

static enum ring_open_result _open_locked(struct ring *ring,
					  uint64_t data_bytes, const char *id,
					  bool own, char *why, size_t why_size)
{
	struct ring_ident ident[2] = { 0 };
	const struct ring_ident *known = NULL;
	ssize_t got = pread(ring->fd, ident, sizeof(ident), 0);
	struct stat st;
	int rc;

	if ((got < 0) || fstat(ring->fd, &st)) {
		snprintf(why, why_size, "can't read ring %s: %s", ring->path,
			 strerror(errno));
		return RING_FAILED;
	}
	if (_never_formatted(ident) && !own) {
		snprintf(why, why_size, "ring %s is empty", ring->path);
		return RING_BUSY;
	}
	if (_never_formatted(ident)) {
		if ((rc = _allocate(ring, data_bytes)) ||
		    (rc = _map(ring, data_bytes))) {
			snprintf(why, why_size, "can't make ring %s of %llu MiB: %s",
				 ring->path,
				 (unsigned long long) (data_bytes >> 20),
				 strerror(rc));
			(void) unlink(ring->path);
			return RING_FAILED;
		}
		_format(ring, id);
		_publish(ring);
		return RING_OPENED;
	}

	if (_ident_valid(&ident[0]))
		known = &ident[0];
	else if (_ident_valid(&ident[1]))
		known = &ident[1];
	if (!known || ((uint64_t) st.st_size !=
		       RING_HEADER_BYTES + known->data_bytes))
		return _set_aside(ring, why, why_size);
	/* a page that someone punched out would be a SIGBUS later */
	if ((rc = posix_fallocate(ring->fd, 0, st.st_size)) ||
	    (rc = _map(ring, known->data_bytes))) {
		snprintf(why, why_size, "can't map ring %s: %s", ring->path,
			 strerror(rc));
		return RING_FAILED;
	}
	memcpy(ring->id, known->id, sizeof(ring->id));
	_recover(ring);
	if (own && (ring->head.pos == ring->tail.pos) &&
	    (ring->size != data_bytes)) {
		(void) munmap(ring->map, ring->map_bytes);
		ring->map = NULL;
		if ((rc = _allocate(ring, data_bytes)) ||
		    (rc = _map(ring, data_bytes))) {
			snprintf(why, why_size, "can't resize ring %s: %s",
				 ring->path, strerror(rc));
			(void) unlink(ring->path);
			return RING_FAILED;
		}
		_format(ring, known->id);
	}
	_publish(ring);
	return RING_OPENED;
}

/* True when path still names the file that fd has open. */
static bool _same_file(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !lstat(path, &b) && (a.st_dev == b.st_dev) &&
	       (a.st_ino == b.st_ino);
}

extern enum ring_open_result ring_open(struct ring **out, const char *path,
				       uint64_t data_bytes, const char *id,
				       bool own, char *why, size_t why_size)
{
	enum ring_open_result result = RING_FAILED;
	struct ring *ring = aligned_alloc(64, sizeof(*ring));
	struct stat st;

	if (!ring) {
		snprintf(why, why_size, "no memory for ring %s", path);
		return RING_FAILED;
	}
	memset(ring, 0, sizeof(*ring));
	snprintf(ring->path, sizeof(ring->path), "%s", path);
	ring->fd = open(path, O_RDWR | (own ? O_CREAT : 0) | O_NOFOLLOW |
			O_CLOEXEC | O_NONBLOCK, 0600);
	if (ring->fd < 0) {
		snprintf(why, why_size, "can't open ring %s: %s", path,
			 strerror(errno));
	} else if (fstat(ring->fd, &st) || !S_ISREG(st.st_mode) ||
		   (st.st_uid != geteuid()) || (st.st_nlink != 1) ||
		   (st.st_mode & 077)) {
		snprintf(why, why_size, "ring %s must be a regular file of uid %u with mode 0600",
			 path, (unsigned) geteuid());
	} else if (flock(ring->fd, LOCK_EX | LOCK_NB)) {
		snprintf(why, why_size, "ring %s belongs to another process",
			 path);
		if (errno == EWOULDBLOCK)
			result = RING_BUSY;
	} else if (!_same_file(ring->fd, path)) {
		snprintf(why, why_size, "ring %s was replaced meanwhile", path);
		result = RING_BUSY;
	} else {
		result = _open_locked(ring, data_bytes, id, own, why, why_size);
	}

	if (result != RING_OPENED) {
		ring_close(ring);
		ring = NULL;
	}
	*out = ring;
	return result;
}

extern bool ring_file_empty(const char *path)
{
	struct ring_header header;
	struct ring_head_slot head = { 0 };
	struct ring_tail_slot tail = { 0 };
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	ssize_t got;

	if (fd < 0)
		return true;
	got = pread(fd, &header, sizeof(header), 0);
	(void) close(fd);
	return (got == sizeof(header)) && NEWER_SLOT(header.head, &head) &&
	       NEWER_SLOT(header.tail, &tail) && (head.pos == tail.pos);
}

extern struct ring *ring_private(uint64_t data_bytes, const char *id)
{
	struct ring *ring = aligned_alloc(64, sizeof(*ring));

	if (!ring)
		return NULL;
	memset(ring, 0, sizeof(*ring));
	ring->fd = -1;
	if (_map(ring, data_bytes)) {
		free(ring);
		return NULL;
	}
	_format(ring, id);
	_publish(ring);
	return ring;
}

extern void ring_close(struct ring *ring)
{
	if (!ring)
		return;
	if (ring->map)
		(void) munmap(ring->map, ring->map_bytes);
	if (ring->fd >= 0)
		(void) close(ring->fd);
	free(ring);
}

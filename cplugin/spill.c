/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crc32c.h"
#include "plog.h"
#include "spill.h"

#define SPILL_MAGIC "SJCSPIL"
#define BUFFER_BYTES ((size_t) 4 << 20) /* holds any one record */
#define RECORD_MAX ((uint32_t) 2 << 20) /* no record is longer */

struct spill_header {
	char magic[8];
	uint32_t format; /* 1 */
	uint32_t generation;
	uint64_t base_seq;
	uint64_t n; /* the larger n is the newer copy */
	char id[RING_ID_BYTES];
	uint32_t unused;
	uint32_t crc;
};

#define CRC_OF(header) \
	crc32c((header), sizeof(*(header)) - sizeof((header)->crc))
#define COPY_AT(n) ((off_t) (((n) & 1) * (SPILL_HEADER_BYTES / 2)))

/* All of it or errno, whatever write() feels like. */
static bool _pwrite_all(int fd, const void *buf, size_t size, off_t at)
{
	const uint8_t *p = buf;

	while (size) {
		ssize_t n = pwrite(fd, p, size, at);

		if ((n < 0) && (errno == EINTR))
			continue;
		if (n < 0)
			return false;
		p += n;
		at += n;
		size -= (size_t) n;
	}
	return true;
}

static bool _write_header(struct spill *spill)
{
	struct spill_header header = {
		.magic = SPILL_MAGIC,
		.format = 1,
		.generation = spill->generation,
		.base_seq = spill->base_seq,
		.n = spill->slot + 1,
	};

	memcpy(header.id, spill->id, sizeof(header.id));
	header.crc = CRC_OF(&header);
	if (!_pwrite_all(spill->fd, &header, sizeof(header),
			 COPY_AT(header.n)) || fdatasync(spill->fd))
		return false;
	spill->slot = header.n;
	return true;
}

static bool _read_header(struct spill *spill)
{
	bool found = false;

	for (unsigned i = 0; i < 2; i++) {
		struct spill_header header;

		if ((pread(spill->fd, &header, sizeof(header), COPY_AT(i)) !=
		     sizeof(header)) ||
		    memcmp(header.magic, SPILL_MAGIC, sizeof(header.magic)) ||
		    (header.crc != CRC_OF(&header)) || (header.format != 1) ||
		    memcmp(header.id, spill->id, sizeof(header.id)) ||
		    (found && (header.n < spill->slot)))
			continue;
		found = true;
		spill->slot = header.n;
		spill->generation = header.generation;
		spill->base_seq = header.base_seq;
	}
	return found;
}

/* Makes the window start at pos and hold what the file has there. */
static bool _fill_window(struct spill *spill, uint64_t pos)
{
	ssize_t n;

	do {
		n = pread(spill->fd, spill->window, BUFFER_BYTES, (off_t) pos);
	} while ((n < 0) && (errno == EINTR));
	spill->window_pos = pos;
	spill->window_bytes = (n > 0) ? (size_t) n : 0;
	return n > 0;
}

/* The record at pos, or NULL when there is no whole one. Those before whole_to
 * are known to be. */
static const struct ring_rec_head *_record_at(struct spill *spill,
					      uint64_t pos, uint64_t whole_to)
{
	const struct ring_rec_head *head;

	for (int tries = 0; tries < 2; tries++) {
		size_t skip = (size_t) (pos - spill->window_pos);
		const uint8_t *payload;
		size_t left;

		if ((pos >= spill->window_pos) &&
		    (skip + sizeof(*head) <= spill->window_bytes)) {
			left = spill->window_bytes - skip;
			head = (const struct ring_rec_head *)
				(spill->window + skip);
			if (head->len > RECORD_MAX)
				return NULL;
			payload = (const uint8_t *) (head + 1);
			if (ring_rec_bytes(head->len) <= left)
				return ((head->seq < whole_to) ?
					ring_rec_fits(head, payload, left) :
					ring_rec_valid(head, payload, left)) ?
					head : NULL;
		}
		if (tries || !_fill_window(spill, pos))
			return NULL;
	}
	return NULL;
}

extern enum ring_read_result spill_read(struct spill *spill,
					struct ring_cursor *cursor,
					struct ring_rec_head *head,
					const uint8_t **payload)
{
	const struct ring_rec_head *at;

	if (cursor->pos >= spill->end.pos)
		return RING_EMPTY;
	at = _record_at(spill, cursor->pos, cursor->whole_to);
	if (at && (at->seq == cursor->seq)) {
		*head = *at;
		*payload = (const uint8_t *) (at + 1);
		cursor->pos += ring_rec_bytes(at->len);
		cursor->seq++;
		return RING_RECORD;
	}
	for (cursor->pos += RING_ALIGN; cursor->pos < spill->end.pos;
	     cursor->pos += RING_ALIGN) {
		at = _record_at(spill, cursor->pos, 0);
		if (at && (at->seq >= cursor->seq)) {
			cursor->seq = at->seq;
			return RING_HOLE;
		}
	}
	*cursor = spill->end;
	return RING_HOLE;
}

/* Finds the first and the last whole record of a file that was left. */
static void _find_records(struct spill *spill, uint64_t file_bytes)
{
	uint64_t pos = SPILL_HEADER_BYTES;

	spill->first = spill->end = (struct ring_cursor) { .pos = pos };
	while (pos + sizeof(struct ring_rec_head) <= file_bytes) {
		const struct ring_rec_head *head = _record_at(spill, pos, 0);

		if (!head || (spill->records && (head->seq < spill->end.seq))) {
			pos += RING_ALIGN;
			continue;
		}
		if (!spill->records) {
			spill->first.seq = head->seq;
			/* a damaged first record shows as a hole */
			if (pos != SPILL_HEADER_BYTES)
				spill->first.seq = head->seq - 1;
		}
		spill->records++;
		spill->end.seq = head->seq + 1;
		pos += ring_rec_bytes(head->len);
		spill->end.pos = pos;
	}
	spill->next_seq = spill->end.seq;
	if (spill->end.pos < file_bytes)
		plog_error("spill file %s: %llu bytes behind its last whole record left out",
			   spill->path,
			   (unsigned long long) (file_bytes - spill->end.pos));
}

static void _sync_directory(const char *path)
{
	char copy[4096];
	int fd;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		(void) fsync(fd);
		(void) close(fd);
	}
}

static void _discard(struct spill *spill)
{
	if (spill->fd >= 0)
		(void) close(spill->fd);
	free(spill->buffer);
	free(spill->window);
	free(spill);
}

static bool _load(struct spill *spill, bool create, char *why,
		  size_t why_size)
{
	char aside[sizeof(spill->path) + 32];
	struct stat st;

	spill->fd = open(spill->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW |
			 O_NONBLOCK | (create ? O_CREAT : 0), 0600);
	if ((spill->fd < 0) || fstat(spill->fd, &st)) {
		snprintf(why, why_size, "can't open spill file %s: %s",
			 spill->path, strerror(errno));
		return false;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(why, why_size, "spill file %s is no regular file",
			 spill->path);
		errno = EINVAL;
		return false;
	}
	if (flock(spill->fd, LOCK_EX | LOCK_NB)) {
		snprintf(why, why_size, "spill file %s: %s", spill->path,
			 strerror(errno));
		return false;
	}
	if (!st.st_size) {
		spill->first.pos = spill->end.pos = SPILL_HEADER_BYTES;
		spill->generation = 0; /* spill_renumber writes the header */
		return true;
	}
	if (!_read_header(spill)) {
		snprintf(aside, sizeof(aside), "%s.damaged-%lld", spill->path,
			 (long long) time(NULL));
		(void) rename(spill->path, aside);
		snprintf(why, why_size, "spill file %s has no readable header, set aside as %s",
			 spill->path, aside);
		errno = EBADMSG;
		return false;
	}
	_find_records(spill, (uint64_t) st.st_size);
	return true;
}

extern struct spill *spill_open(const char *dir, const char *id, bool create,
				uint64_t max_bytes, char *why,
				size_t why_size)
{
	struct spill *spill = calloc(1, sizeof(*spill));

	if (spill) {
		spill->fd = -1;
		spill->max_bytes = max_bytes;
		spill->buffer = malloc(BUFFER_BYTES);
		spill->window = malloc(BUFFER_BYTES);
	}
	if (!spill || !spill->buffer || !spill->window) {
		snprintf(why, why_size, "no memory for a spill file");
		if (spill)
			_discard(spill);
		return NULL;
	}
	snprintf(spill->id, sizeof(spill->id), "%s", id);
	if (snprintf(spill->path, sizeof(spill->path), "%s/" SPILL_PREFIX "%s"
		     SPILL_SUFFIX, dir, id) >= (int) sizeof(spill->path) ||
	    !_load(spill, create, why, why_size)) {
		_discard(spill);
		return NULL;
	}
	return spill;
}

extern void spill_close(struct spill *spill)
{
	if (!spill)
		return;
	if (!spill->records) {
		(void) unlink(spill->path);
		_sync_directory(spill->path);
	}
	_discard(spill);
}

extern enum spill_result spill_append(struct spill *spill,
				      const struct ring_rec_head *head,
				      const uint8_t *payload)
{
	size_t bytes = ring_rec_bytes(head->len);
	uint8_t *to;

	if (spill->end.pos + spill->buffered + bytes > spill->max_bytes)
		return SPILL_FULL;
	if (spill->buffered + bytes > BUFFER_BYTES) {
		enum spill_result rc = spill_sync(spill);

		if (rc != SPILL_OK)
			return rc;
	}
	if (!spill->records && !spill->buffered_records) {
		spill->first.seq = spill->end.seq = head->seq;
		spill->next_seq = head->seq;
	}
	to = spill->buffer + spill->buffered;
	memset(to + bytes - RING_ALIGN, 0, RING_ALIGN);
	memcpy(to, head, sizeof(*head));
	memcpy(to + sizeof(*head), payload, head->len);
	spill->buffered += bytes;
	spill->buffered_records++;
	spill->next_seq = head->seq + 1;
	return SPILL_OK;
}

/*
 * Give back what is past the end. Where that fails, records that were torn or
 * delivered stay in the file: the next process finds the first by their checksum
 * and sends the second once more, which changes nothing.
 */
static void _cut_off(struct spill *spill)
{
	if (ftruncate(spill->fd, (off_t) spill->end.pos))
		return;
}

extern enum spill_result spill_sync(struct spill *spill)
{
	int saved;

	if (!spill->buffered)
		return SPILL_OK;
	if (_pwrite_all(spill->fd, spill->buffer, spill->buffered,
			(off_t) spill->end.pos) && !fdatasync(spill->fd)) {
		if (!spill->records)
			_sync_directory(spill->path);
		spill->end.pos += spill->buffered;
		spill->end.seq = spill->next_seq;
		spill->records += spill->buffered_records;
		spill->buffered = 0;
		spill->buffered_records = 0;
		/* it may show what a torn end left where records are now */
		spill->window_bytes = 0;
		return SPILL_OK;
	}
	/*
	 * Part of it may be in the file. It is cut off, and since a second
	 * fsync of the same pages proves nothing, the next try writes anew.
	 */
	saved = errno;
	_cut_off(spill);
	spill->buffered = 0;
	spill->buffered_records = 0;
	spill->next_seq = spill->end.seq;
	errno = saved;
	return SPILL_ERROR;
}

extern void spill_free(struct spill *spill, const struct ring_cursor *cursor)
{
	uint64_t gone = cursor->seq - spill->first.seq;

	spill->first = *cursor;
	spill->records -= (gone < spill->records) ? gone : spill->records;
	if ((cursor->pos < spill->end.pos) || spill->buffered)
		return;
	spill->records = 0;
	spill->first.pos = spill->end.pos = SPILL_HEADER_BYTES;
	spill->window_bytes = 0;
	_cut_off(spill);
}

extern bool spill_renumber(struct spill *spill, uint32_t generation,
			   uint64_t base_seq)
{
	spill->generation = generation;
	spill->base_seq = base_seq;
	return _write_header(spill);
}

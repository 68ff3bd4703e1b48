/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Appending to and removing from a ring that is open; see ring.h. */
#include <string.h>

#include "crc32c.h"
#include "ring.h"
#include "ring_layout.h"

/*
 * A process can be killed between any two of its instructions, never in the
 * middle of one, and memory it wrote stays. So the order in which the compiler
 * emits the stores is all that matters to a later process.
 */
#define KEEP_ORDER() atomic_signal_fence(memory_order_seq_cst)

#define CRC_OF(slot) crc32c((slot), sizeof(*(slot)) - sizeof((slot)->crc))

extern void ring_save_head(struct ring *ring)
{
	struct ring_head_slot *slot =
		&ring_header(ring)->head[++ring->head.n & 1];

	ring->head.crc = CRC_OF(&ring->head);
	KEEP_ORDER();
	*slot = ring->head;
	KEEP_ORDER();
}

extern void ring_save_tail(struct ring *ring)
{
	struct ring_tail_slot *slot =
		&ring_header(ring)->tail[++ring->tail.n & 1];

	ring->tail.crc = CRC_OF(&ring->tail);
	KEEP_ORDER();
	*slot = ring->tail;
	KEEP_ORDER();
}

extern uint64_t ring_used(const struct ring *ring)
{
	return atomic_load_explicit(&ring->head_pos, memory_order_acquire) -
	       atomic_load_explicit(&ring->tail_pos, memory_order_acquire);
}

/* ---- producer ---- */

extern uint8_t *ring_reserve(struct ring *ring, bool wrapped, size_t *room)
{
	uint64_t pos = ring->head.pos;
	uint64_t tail = atomic_load_explicit(&ring->tail_pos,
					     memory_order_acquire);
	uint64_t free_bytes = ring->size - (pos - tail);
	uint64_t contiguous = ring->size - pos % ring->size;

	*room = 0;
	if (wrapped) {
		if (free_bytes <= contiguous)
			return NULL;
		pos += contiguous;
		free_bytes -= contiguous;
	} else if (free_bytes > contiguous) {
		free_bytes = contiguous;
	}
	ring->reserved_pos = pos;
	if (free_bytes <= sizeof(struct ring_rec_head))
		return NULL;
	*room = free_bytes - sizeof(struct ring_rec_head);
	return ring->data + pos % ring->size + sizeof(struct ring_rec_head);
}

static uint32_t _record_crc(const struct ring_rec_head *head)
{
	const uint8_t *from = (const uint8_t *) &head->len;

	return crc32c(from, sizeof(*head) -
		      offsetof(struct ring_rec_head, len) + head->len);
}

extern void ring_commit(struct ring *ring, const struct ring_rec_head *head)
{
	uint64_t pos = ring->reserved_pos;
	struct ring_rec_head *at =
		(struct ring_rec_head *) (ring->data + pos % ring->size);

	*at = *head;
	at->magic = RING_RECORD_MAGIC;
	at->seq = ring->head.next_seq;
	at->crc = _record_crc(at);
	if (pos != ring->head.pos) {
		struct ring_rec_head *pad = (struct ring_rec_head *)
			(ring->data + ring->head.pos % ring->size);

		pad->magic = RING_PAD_MAGIC;
	}
	KEEP_ORDER();

	ring->head.pos = pos + ring_rec_bytes(head->len);
	ring->head.next_seq++;
	ring_save_head(ring);
	atomic_store_explicit(&ring->next_seq, ring->head.next_seq,
			      memory_order_relaxed);
	/* seq_cst: pairs with the sender's look before it sleeps */
	atomic_store(&ring->head_pos, ring->head.pos);
}

extern void ring_drop(struct ring *ring, uint32_t job_id)
{
	atomic_store(&ring->dropped_jobs[ring->head.dropped % RING_DROPS_KEPT],
		     job_id);
	ring->head.dropped++;
	ring->head.last_dropped_job = job_id;
	ring_save_head(ring);
	atomic_store(&ring->last_dropped_job, job_id);
	atomic_store(&ring->dropped, ring->head.dropped);
}

/* ---- consumer ---- */

extern struct ring_cursor ring_first(const struct ring *ring)
{
	return (struct ring_cursor) {
		.pos = ring->tail.pos,
		.seq = ring->tail.seq,
	};
}

extern bool ring_rec_fits(const struct ring_rec_head *head,
			  const uint8_t *payload, uint64_t room)
{
	/* numbers start at 1, and the one behind them must be a number too */
	return (room >= sizeof(*head)) && (head->magic == RING_RECORD_MAGIC) &&
	       head->seq && (head->seq != UINT64_MAX) &&
	       (head->len <= room - sizeof(*head)) &&
	       (payload == (const uint8_t *) (head + 1));
}

extern bool ring_rec_valid(const struct ring_rec_head *head,
			   const uint8_t *payload, uint64_t room)
{
	return ring_rec_fits(head, payload, room) &&
	       (head->crc == _record_crc(head));
}

/*
 * Damage at the cursor: looks for the next place that holds a whole record
 * with a sequence number not yet seen. The sum over the header and payload
 * and the range of the number keep remains of earlier rounds out.
 */
static enum ring_read_result _skip_damage(struct ring *ring,
					  struct ring_cursor *cursor,
					  uint64_t head_pos)
{
	uint64_t next_seq = atomic_load(&ring->next_seq);

	for (cursor->pos += RING_ALIGN; cursor->pos < head_pos;
	     cursor->pos += RING_ALIGN) {
		uint64_t at = cursor->pos % ring->size;
		uint64_t room = ring->size - at;
		const struct ring_rec_head *head =
			(const struct ring_rec_head *) (ring->data + at);

		if (room > head_pos - cursor->pos)
			room = head_pos - cursor->pos;
		if (ring_rec_valid(head, (const uint8_t *) (head + 1), room) &&
		    (head->seq >= cursor->seq) && (head->seq < next_seq)) {
			cursor->seq = head->seq;
			return RING_HOLE;
		}
	}
	cursor->pos = head_pos;
	cursor->seq = next_seq;
	return RING_HOLE;
}

extern enum ring_read_result ring_read(struct ring *ring,
				       struct ring_cursor *cursor,
				       struct ring_rec_head *head,
				       const uint8_t **payload)
{
	uint64_t head_pos = atomic_load_explicit(&ring->head_pos,
						 memory_order_acquire);
	const struct ring_rec_head *at;
	uint64_t room;

	if (cursor->pos >= head_pos)
		return RING_EMPTY;
	at = (const struct ring_rec_head *)
		(ring->data + cursor->pos % ring->size);
	if (at->magic == RING_PAD_MAGIC) {
		uint64_t skip = ring->size - cursor->pos % ring->size;

		if (skip >= head_pos - cursor->pos)
			return _skip_damage(ring, cursor, head_pos);
		cursor->pos += skip;
		at = (const struct ring_rec_head *) ring->data;
	}
	room = ring->size - cursor->pos % ring->size;
	if (room > head_pos - cursor->pos)
		room = head_pos - cursor->pos;
	if (!ring_rec_fits(at, (const uint8_t *) (at + 1), room) ||
	    (at->seq != cursor->seq) ||
	    ((at->seq >= cursor->whole_to) && (at->crc != _record_crc(at))))
		return _skip_damage(ring, cursor, head_pos);

	*head = *at;
	*payload = (const uint8_t *) (at + 1);
	cursor->pos += ring_rec_bytes(at->len);
	cursor->seq++;
	return RING_RECORD;
}

extern void ring_free(struct ring *ring, const struct ring_cursor *cursor)
{
	ring->tail.pos = cursor->pos;
	ring->tail.seq = cursor->seq;
	ring_save_tail(ring);
	atomic_store_explicit(&ring->tail_pos, cursor->pos,
			      memory_order_release);
}

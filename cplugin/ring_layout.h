/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring file's header, shared by ring.c (use) and ring_open.c (recovery). */
#ifndef JOBCOMP_REDIS_RING_LAYOUT_H
#define JOBCOMP_REDIS_RING_LAYOUT_H

#include "ring.h"

#define RING_FILE_MAGIC "SJCRING"
#define RING_FILE_FORMAT 1

/* Copies lie apart, so that one damaged cache line or sector spares one. */
struct ring_header {
	struct ring_ident ident[2];
	_Alignas(512) struct ring_head_slot head[2];
	_Alignas(512) struct ring_tail_slot tail[2];
};

_Static_assert(sizeof(struct ring_header) <= RING_HEADER_BYTES,
	       "the header fits its page");
_Static_assert(sizeof(struct ring_rec_head) == 40, "no padding inside");

static inline struct ring_header *ring_header(const struct ring *ring)
{
	return (struct ring_header *) ring->map;
}

/* Writes ring->head to the slot that does not hold the newest state. */
extern void ring_save_head(struct ring *ring);

#endif

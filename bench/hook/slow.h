/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why some calls are slow: was the thread switched out during the call, did it
 * take a page fault, or does this machine interrupt anything that long?
 */
#ifndef HOOK_SLOW_H
#define HOOK_SLOW_H

#include <stdint.h>

#define SLOW_NS 20000  /* a call that takes longer is slow */
#define SPIN_TURNS 500 /* a multiplication each: about a call of our own hook */

struct slow {
	uint64_t calls;     /* slow ones, and of these: */
	uint64_t switched;  /* the thread lost its processor to another */
	uint64_t faulted;   /* a page was missing */
	uint64_t spins;     /* slow spins */
	uint32_t kept_max_ns; /* the longest call that kept its processor */
	uint32_t *spin_ns;  /* of a spin between calls, one for each call */
};

/* What the thread had been through before the call. */
struct slow_mark {
	long switched;
	long faulted;
};

/* Room for that many spins. */
extern void slow_init(struct slow *slow, uint64_t calls);

/* Before and behind a call, outside of what is timed; n calls were before it. */
extern struct slow_mark slow_begin(struct slow *slow, uint64_t n);
extern void slow_end(struct slow *slow, const struct slow_mark *mark,
		     int64_t ns);

#endif

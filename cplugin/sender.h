/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sender: one thread of slurmctld that brings records from the ring to
 * the daemon, spills them when it is away, and adopts what others left.
 */
#ifndef JOBCOMP_REDIS_SENDER_H
#define JOBCOMP_REDIS_SENDER_H

#include "params.h"
#include "ring.h"

struct sender;

/* What a sender is started with. Strings are copied. */
struct sender_config {
	struct params params;
	char state_dir[4000]; /* StateSaveLocation, "": no spilling */
	char cluster[256];
	char program[64];     /* who we say we are in HELLO: name/version */
};

/*
 * Starts the thread on a ring, which is then the sender's (ring_close
 * included). NULL when no thread could be had; the ring is the caller's then.
 */
extern struct sender *sender_start(const struct sender_config *config,
				   struct ring *ring);

/* New settings, as after a reconfigure. Never waits for the thread. */
extern void sender_configure(struct sender *sender,
			     const struct sender_config *config);

/*
 * Has the thread finish: what the daemon takes within a second is delivered,
 * the rest is spilled. Returns within two seconds in any case; a thread that
 * hangs in the system by then is left to end by itself and false is returned.
 */
extern bool sender_stop(struct sender *sender);

/* After ring_commit or ring_drop: wakes the thread if it sleeps. */
extern void sender_wake(struct sender *sender);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which directory holds the rings, which ring is ours, which are orphans. */
#ifndef JOBCOMP_REDIS_RING_DIR_H
#define JOBCOMP_REDIS_RING_DIR_H

#include "ring.h"

/*
 * Opens this process's ring: the first one of this slurmctld (told apart by
 * its cluster and StateSaveLocation) that no other process owns, or a new one.
 * Tries wanted_dir if it is not "", then directories on tmpfs, then state_dir,
 * then private memory; says in the log what it had to make do with. NULL only
 * when there is no memory either.
 */
extern struct ring *ring_dir_open(const char *wanted_dir,
				  const char *state_dir, const char *cluster,
				  uint64_t data_bytes);

/*
 * The next ring of this slurmctld that holds records and that nobody owns, now
 * ours; NULL when there is none.
 */
extern struct ring *ring_dir_adopt(const char *wanted_dir,
				   const char *state_dir, const char *cluster);

#endif

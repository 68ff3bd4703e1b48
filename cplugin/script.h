/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The job script, put into the record by the sender: slurmctld keeps it in a
 * file, and the hook opens none.
 */
#ifndef JOBCOMP_REDIS_SCRIPT_H
#define JOBCOMP_REDIS_SCRIPT_H

#include "ring.h"

/* Bytes that script_add may need beyond the payload. */
#define SCRIPT_ROOM ((size_t) 300 << 10)

/*
 * Writes the record to [to, to + room) with the job's script, as it lies in
 * state_dir, and the names of user and group where it has none (NULL: leave it
 * so). Returns its bytes; 0 when there is no script (any more) or no room.
 */
extern size_t script_add(const char *state_dir,
			 const struct ring_rec_head *head,
			 const uint8_t *payload, const char *user,
			 const char *group, uint8_t *to, size_t room);

#endif

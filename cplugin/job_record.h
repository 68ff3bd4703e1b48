/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From slurmctld's job record to ours; see schema/record.json. */
#ifndef JOBCOMP_REDIS_JOB_RECORD_H
#define JOBCOMP_REDIS_JOB_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "ring.h"
#include "slurm_compat.h"

/*
 * Encodes the job into [to, to + room) and fills head's len, job_id, uid, gid
 * and, when Slurm has no name of the user or group at hand, user_at and
 * group_at. Reads job_ptr and nothing else: no locks, no memory, no NSS.
 * Returns false when room was too small. now is used for a job that is being
 * resized, and for one without an end.
 */
extern bool job_record_encode(const job_record_t *job_ptr, const char *cluster,
			      time_t now, uint8_t *to, size_t room,
			      struct ring_rec_head *head);

#endif

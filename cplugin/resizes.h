/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When jobs that are being resized were resized before. Slurm overwrites that
 * time before it tells us that a part has ended, so that the part's own start
 * has to be remembered from the last time.
 */
#ifndef JOBCOMP_REDIS_RESIZES_H
#define JOBCOMP_REDIS_RESIZES_H

#include <stdint.h>
#include <time.h>

/*
 * Notes that a job is resized at that moment; returns when it was resized
 * before, 0 when it was not or that was forgotten (the last 256 are kept, and
 * none over a restart). Not thread-safe: slurmctld calls with its job write lock.
 */
extern time_t resizes_note(uint32_t job_id, time_t now);

#endif

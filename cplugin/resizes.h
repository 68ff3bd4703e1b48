/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When jobs that are being resized were resized before. Slurm overwrites that
 * time before it tells us that a part has ended, so that the part's own start
 * has to be remembered from the last time. Without it a part would seem to
 * begin with the job and take the place of the first one in the store.
 *
 * The last 256 resized jobs are kept, over a restart in the file RESIZES_FILE
 * in StateSaveLocation, one line "<job id> <seconds UTC>" for each.
 */
#ifndef JOBCOMP_REDIS_RESIZES_H
#define JOBCOMP_REDIS_RESIZES_H

#include <stdint.h>
#include <time.h>

#define RESIZES_FILE "jobcomp_redis.resizes"

/*
 * Notes that a job that runs since `started` is resized at `now`; returns when
 * it was resized before in that run, 0 when it was not or that was forgotten.
 * Does no I/O.
 */
extern time_t resizes_note(uint32_t job_id, time_t started, time_t now);

/* Takes in what an earlier process saved. Lines that say nothing are skipped. */
extern void resizes_load(const char *state_dir);

/*
 * Saves what was noted since the last call, if anything was. For a thread that
 * may wait for a disk; what can't be written is logged and forgotten.
 */
extern void resizes_save(const char *state_dir);

#endif

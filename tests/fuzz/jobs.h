/* SPDX-License-Identifier: MIT */
/* Records made of an input's bytes, few of a kind so that they meet. */
#ifndef SLURMJCD_FUZZ_JOBS_H
#define SLURMJCD_FUZZ_JOBS_H

#include "fuzz.h"
#include "segment.h"

#define FUZZ_DAY 19000

/*
 * A record of FUZZ_DAY. Its strings are constants or lie in the input, which
 * has to outlive it; text is the room for its extra map.
 */
struct jc_record job_from(struct input *in, uint8_t extra[64]);

/* The same record? Their time to live is not part of it. */
bool same_job(const struct jc_record *a, const struct jc_record *b);

/* The same run of a job? */
bool same_run_of_job(const struct jc_record *a, const struct jc_record *b);

/* <0, 0, >0 in order of completion. */
int compare_jobs(const struct jc_record *a, const struct jc_record *b);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The reference jobs: what every benchmark stores, so that their figures can
 * be laid side by side. A job is a pure function of the seed, the number of
 * jobs and its index; nothing is read from a clock.
 *
 * 500 users in 40 groups and accounts (Zipf), 6 partitions, 4 QOS, 3,000
 * nodes, 7 days. Index is the order of submission (job ids ascend with it);
 * reference_order() gives the order of completion, in which jobs are stored.
 */
#ifndef SLURMJCD_REFERENCE_JOBS_H
#define SLURMJCD_REFERENCE_JOBS_H

#include <stddef.h>
#include <stdint.h>

#include "record.h"

#define REFERENCE_SEED UINT64_C(20260105)
/* First second of the seven days: 2026-01-05T00:00:00Z. */
#define REFERENCE_START INT64_C(1767571200)
#define REFERENCE_DAYS 7
#define REFERENCE_FIRST_JOB_ID 1000000
#define REFERENCE_FIRST_UID 20000
#define REFERENCE_FIRST_GID 5000
#define REFERENCE_USERS 500

/* One job; the record's strings point into the buffers beside it. */
struct reference_job {
    struct jc_record record;
    char user[16];
    char group[16];
    char name[64];
    char partition[16];
    char account[16];
    char qos[16];
    char nodes[1024];
    char tres[128];
    char work_dir[128];
    char std_out[64];
    uint8_t extra[128];
};

/* Fills job with the one at index (0 to jobs - 1). */
void reference_job(struct reference_job *job, uint64_t seed, uint64_t jobs,
                   uint64_t index);

/*
 * The indexes of all jobs in order of completion: a malloc'ed array of jobs
 * elements, or NULL without memory.
 */
uint64_t *reference_order(uint64_t seed, uint64_t jobs);

#endif

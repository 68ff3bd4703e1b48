/* SPDX-License-Identifier: MIT */
/* Forty made-up jobs to ask criteria of: together in one segment, and each in
 * a segment of its own. */
#ifndef SLURMJCD_FUZZ_CROWD_H
#define SLURMJCD_FUZZ_CROWD_H

#include "jobs.h"
#include "scan.h"

#define CROWD 40

extern struct jc_record crowd_job[CROWD];
extern struct jc_segment *crowd_all, *crowd_alone[CROWD];

/* Once, before anything else. */
void crowd_make(void);

/* The number of jobs that s has for q, which jc_scan_start has seen; which[]
 * (NULL: never mind) says which they are. */
unsigned crowd_ask(struct jc_scan *q, const struct jc_segment *s,
                   bool which[CROWD]);

#endif

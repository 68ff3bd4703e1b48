/* SPDX-License-Identifier: MIT */
/*
 * The criteria `viewer` and `viewer_account`: a job is for who owns it or is
 * in charge of its account. Every other pair of criteria means *and*.
 */
#ifndef SLURMJCD_VIEWER_H
#define SLURMJCD_VIEWER_H

#include "criteria.h"
#include "segment.h"

/* The accounts' codes in this segment; none when it has none of them. */
void jc_viewer_bind(const struct jc_criteria *c, const struct jc_segment *s,
                    struct jc_ranges *codes);

/* Clears match[i] of every row of b that is not for the viewer. */
void jc_viewer_keep(const struct jc_criteria *c, const struct jc_ranges *codes,
                    const struct jc_block *b, uint8_t *match);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Slurm's node lists, n[1-3,07],gpu2,r[1-2]n[1-4]: do two of them share a node?
 *
 * A list is taken apart into runs: a prefix, a range of numbers written with a
 * fixed least width, and a suffix without digits. Nothing is expanded but the
 * brackets of a name before its last number.
 */
#ifndef SLURMJCD_NODELIST_H
#define SLURMJCD_NODELIST_H

#include "host.h"
#include "record.h"

struct jc_noderun;

struct jc_nodelist {
    struct jc_noderun *run; /* sorted by name, width, number; disjoint */
    size_t runs;
    size_t room;
    uint32_t widths; /* bit w: a run has numbers of w digits at least */
    uint64_t steps;  /* numbers gone through to take the texts apart */
};

/* Adds the nodes that text names. Returns NULL or a constant text saying what
 * is wrong; nodes read so far stay. */
const char *jc_nodelist_add(struct jc_nodelist *list, struct jc_slice text);

/* After the last jc_nodelist_add, before asking. */
void jc_nodelist_done(struct jc_nodelist *list);
void jc_nodelist_free(struct jc_nodelist *list);
size_t jc_nodelist_bytes(const struct jc_nodelist *list);

/* True when text names one of the list's nodes. A text that is no node list, or
 * one of very many parts, is taken as far as it goes. *work grows by about
 * the nanoseconds it took. */
bool jc_nodelist_overlaps(const struct jc_nodelist *list, struct jc_slice text,
                          uint64_t *work);

#endif

/* SPDX-License-Identifier: MIT */
/* Sums over jobs, grouped by one or two fields. */
#ifndef SLURMJCD_AGG_H
#define SLURMJCD_AGG_H

#include "segment.h"

#define JC_AGG_GROUPS_MAX 262144

enum jc_agg_by {
    JC_AGG_NOTHING,
    JC_AGG_STRING, /* a dictionary column */
    JC_AGG_NUMBER, /* state */
    JC_AGG_TIME,   /* the job's end, cut to a multiple of step */
};

struct jc_agg_key {
    const char *name;
    enum jc_agg_by by;
    unsigned col;
    uint64_t step;
};

struct jc_agg_group {
    uint64_t jobs;
    unsigned __int128 node_seconds, cpu_seconds;
    uint64_t wait_seconds, run_seconds;
};

struct jc_agg_local;
struct jc_agg_columns;

struct jc_agg {
    struct jc_agg_key key[2];
    struct jc_dict names;       /* of groups, see jc_agg_name */
    struct jc_agg_group *group; /* by id in names */
    uint32_t room;
    uint64_t serial;            /* of the segment that local is about */
    struct jc_agg_local *local; /* hash table: two codes -> group */
    uint32_t locals, slots;
    uint32_t *direct;           /* one small key: code -> group + 1, or NULL */
    uint32_t directs;           /* codes it has room for */
    struct jc_agg_columns *columns; /* of the block at hand */
    bool full;                  /* JC_AGG_GROUPS_MAX was reached */
};

/* The key of that name (user, account, …), NULL if there is none. */
const struct jc_agg_key *jc_agg_key_of(struct jc_slice name);

void jc_agg_free(struct jc_agg *a);

/* Adds the rows of b whose match is 1. */
void jc_agg_block(struct jc_agg *a, const struct jc_segment *s,
                  const struct jc_block *b, const uint8_t *match);

/* Part i (0, 1) of a group's name; p == NULL for absent. */
struct jc_slice jc_agg_name(const struct jc_agg *a, uint32_t group,
                            unsigned i);

/* Sorting the groups by jobs, most first, then by name, a little at a time. */
struct jc_agg_sort {
    uint32_t *id;    /* of the groups, sorted in the end */
    uint32_t *spare; /* where a pass merges to */
    uint32_t n, width;      /* runs of so many are sorted */
    uint32_t at, left, right; /* of the merge at hand: next place, next of both */
};

/* False without memory. */
bool jc_agg_sort_start(const struct jc_agg *a, struct jc_agg_sort *o);

/* Goes on for so many comparisons; true when all is sorted. */
bool jc_agg_sort_step(const struct jc_agg *a, struct jc_agg_sort *o,
                      uint32_t steps);
void jc_agg_sort_free(struct jc_agg_sort *o);

#endif

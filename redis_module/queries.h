/* SPDX-License-Identifier: MIT */
/* Open queries: from MATCH until FETCH has given all, in memory only. */
#ifndef SLURMJCD_QUERIES_H
#define SLURMJCD_QUERIES_H

#include "engine/scan.h"
#include "store.h"

struct jc_open_query {
    struct jc_scan scan;
    int db;
    struct jc_slice prefix; /* own copy */
    bool iso_times;         /* upstream's _tmf 1 */
    bool busy;              /* a command works on it */
    unsigned holders;       /* the table and the commands at work */
    int64_t used_ms;        /* when it was last used */
    size_t bytes;           /* as counted when it was last used */
    RedisModuleString *key; /* in the table, its end is the id; NULL: closed */
    uint32_t id_n;          /* bytes of the id */
    struct jc_open_query *older, *newer;
};

/* A new query, held by the caller, in no table yet. */
struct jc_open_query *jc_query_new(int db, struct jc_slice prefix);

/* Lets go; the last holder's letting go frees it. */
void jc_query_release(struct jc_open_query *q);

/* Puts q into the table, replacing the query of that id. */
void jc_query_open(struct jc_open_query *q, struct jc_slice id);

/* The open query of that id, NULL if none. */
struct jc_open_query *jc_query_find(int db, struct jc_slice prefix,
                                    struct jc_slice id);

/* Takes q out of the table. */
void jc_query_close(struct jc_open_query *q);

/* Open queries of a prefix. */
uint64_t jc_query_count(int db, struct jc_slice prefix);

/* One step on: the next matching row. END: no more rows at all. With ROW,
 * *s and *place are good until the caller returns, *key is to be closed. */
enum jc_step jc_query_next(RedisModuleCtx *ctx, struct jc_open_query *q,
                           uint64_t work_max, const struct jc_segment **s,
                           struct jc_place *place, RedisModuleKey **key);

/* The same by blocks, whose matching rows q->scan.match tells. */
enum jc_step jc_query_next_block(RedisModuleCtx *ctx, struct jc_open_query *q,
                                 uint64_t work_max,
                                 const struct jc_segment **s,
                                 const struct jc_block **block,
                                 RedisModuleKey **key);

/* Takes criteria from pairs of arguments; false when it has replied. */
bool jc_query_criteria(RedisModuleCtx *ctx, struct jc_criteria *c,
                       RedisModuleString **argv, int argc);

/* A command's work on q is over, for now or for good; lets go of it. */
void jc_query_rest(struct jc_open_query *q);

/* How long an open query is kept that nobody fetches from, seconds. */
#define JC_QUERY_LIFETIME 600
#define JC_QUERY_LIFETIME_MAX 86400

void jc_queries_init(uint64_t lifetime);

#endif

/* SPDX-License-Identifier: MIT */
/* Storing records, for the commands that do: PUT and INDEX. */
#ifndef SLURMJCD_PUT_H
#define SLURMJCD_PUT_H

#include "store.h"

struct jc_put_target;

/* The segments a batch goes to, opened as they are needed. */
struct jc_putter {
    RedisModuleCtx *ctx;
    struct jc_slice prefix;
    struct jc_put_target *target; /* sorted by day */
    size_t targets;
    size_t room;
    int64_t *day;     /* sorted, of every segment there may be; NULL: not asked yet */
    size_t days;
    long long stored; /* new, or replaced an earlier report */
};

void jc_putter_init(struct jc_putter *p, RedisModuleCtx *ctx,
                    struct jc_slice prefix);

/* Makes sure that rec can be stored. NULL, or an error that names what stands
 * in the way; nothing has been changed then. */
const char *jc_putter_prepare(struct jc_putter *p,
                              const struct jc_record *rec);

/* Stores a record whose end was prepared. ttl: seconds, 0 = for ever. */
enum jc_put jc_putter_store(struct jc_putter *p, const struct jc_record *rec,
                            uint64_t ttl);

/* Sets expiries, tells of the changes and closes the keys. Call it always. */
void jc_putter_done(struct jc_putter *p);

#endif

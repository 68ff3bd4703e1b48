/* SPDX-License-Identifier: MIT */
/*
 * The job hashes <prefix>:<jobid> that upstream clients write, on their way to
 * being records, for INDEX and TAKE. A hash goes with the effect that stores its
 * record: a job is in one place or in the other, whatever dies, and the next run
 * of its id finds no fields of this one, which it would overwrite only in part.
 */
#ifndef SLURMJCD_HASH_INTAKE_H
#define SLURMJCD_HASH_INTAKE_H

#include "record_buffer.h"
#include "store.h"

enum jc_hash_kind {
    JC_HASH_JOB,
    JC_HASH_NONE,  /* nothing has that name */
    JC_HASH_OTHER, /* another type of key */
    JC_HASH_BAD,   /* a hash that is no job */
};

struct jc_hash {
    RedisModuleString *name;
    RedisModuleKey *key;
    struct jc_buffer extra, raw; /* raw: the record as PUT takes it */
    struct jc_record rec;        /* strings in raw */
    mstime_t expires;            /* epoch milliseconds; REDISMODULE_NO_EXPIRE */
};

/* The cluster of hashes that don't name theirs, from <prefix>:cluster; an empty
 * slice when that key is none or no string. *key is to be closed if set. */
struct jc_slice jc_hash_cluster(RedisModuleCtx *ctx, struct jc_slice prefix,
                                RedisModuleKey **key);

/* Opens and reads the hash of a job id. ctx's memory must be automatic. JOB:
 * rec, raw and expires are set; BAD: *why is. Close it whatever it was. */
enum jc_hash_kind jc_hash_open(struct jc_hash *h, RedisModuleCtx *ctx,
                               struct jc_slice prefix, struct jc_slice job_id,
                               struct jc_slice cluster, const char **why);

/* How long the row is to be kept after its end, seconds: as the hash would have
 * been, otherwise. The hash never goes: otherwise. 0: for ever. */
uint64_t jc_hash_ttl(const struct jc_hash *h, uint64_t otherwise);

/* Deletes it, and tells who listens; the caller tells replicas. */
void jc_hash_unlink(struct jc_hash *h, RedisModuleCtx *ctx);

void jc_hash_close(struct jc_hash *h);

#endif

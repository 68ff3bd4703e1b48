/* SPDX-License-Identifier: MIT */
/*
 * What an unmodified slurm-redis plugin writes and reads: job hashes, query
 * keys, and replies of 28 fields.
 */
#ifndef SLURMJCD_UPSTREAM_H
#define SLURMJCD_UPSTREAM_H

#include "engine/criteria.h"
#include "record_buffer.h"
#include "redismodule.h"

#define JC_UPSTREAM_FIELDS 28

/* Times with _tmf 1, for strptime and strftime. */
#define JC_ISO_TIME "%Y-%m-%dT%H:%M:%SZ"
/* extra's key for ReqGRES, which the record has no field of */
#define JC_REQ_GRES "req_gres"
/* The state of a job that is being resized: upstream has the bit alone. */
#define JC_RESIZING (UINT32_C(1) << 13)

/* Replies one job as upstream's array of 28 strings or nils. */
void jc_upstream_reply(RedisModuleCtx *ctx, const struct jc_record *rec,
                       bool iso_times);

/*
 * Reads criteria from <prefix>:qry:<id>…; none are there: nothing is added, for
 * a query for everything, but if id is a UUID. That is upstream's client, whose
 * keys have expired: it asked for something else than everything. False when it
 * has replied with an error.
 */
bool jc_upstream_criteria(RedisModuleCtx *ctx, struct jc_slice prefix,
                          struct jc_slice id, struct jc_criteria *c,
                          bool *iso_times);

/*
 * Makes a record of the job hash at key; cluster is for one that doesn't name
 * its own. A job without nodes never ran, so it has no start. The strings live
 * as long as ctx, whose memory must be automatic, and as extra, a buffer the
 * caller frees. NULL, or what is wrong with the hash.
 */
const char *jc_upstream_record(RedisModuleKey *key, struct jc_slice cluster,
                               struct jc_record *rec, struct jc_buffer *extra);

#endif

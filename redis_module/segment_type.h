/* SPDX-License-Identifier: MIT */
#ifndef SLURMJCD_SEGMENT_TYPE_H
#define SLURMJCD_SEGMENT_TYPE_H

#include <stdbool.h>
#include <stdint.h>

#include "redismodule.h"

/* Longest time to live, seconds: a thousand years. */
#define JC_TTL_MAX UINT64_C(31536000000)

/* How often a segment with jobs that are still to be shown left the keyspace in
 * some other way than by TRIM, as MIGRATE and DEL make it leave. A server that
 * says the same number twice, under the same replid, lacked none in between. */
uint64_t jc_segments_gone(void);

/* While this is true none is counted: TRIM drops what nobody wants. */
void jc_segments_trimmed(bool on);

/* Makes the data type 'slurmjseg'; REDISMODULE_ERR if the server refuses. */
int jc_segment_type_init(RedisModuleCtx *ctx);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef SLURMJCD_SEGMENT_TYPE_H
#define SLURMJCD_SEGMENT_TYPE_H

#include "redismodule.h"

/* Longest time to live, seconds: a thousand years. */
#define JC_TTL_MAX UINT64_C(31536000000)

/* Makes the data type 'slurmjseg'; REDISMODULE_ERR if the server refuses. */
int jc_segment_type_init(RedisModuleCtx *ctx);

#endif

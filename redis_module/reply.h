/* SPDX-License-Identifier: MIT */
#ifndef SLURMJCD_REPLY_H
#define SLURMJCD_REPLY_H

#include "redismodule.h"

/* Replies an error whose text may quote what a client sent: bytes that would
 * end the line become '?'. Returns REDISMODULE_OK. */
__attribute__((format(printf, 2, 3)))
int jc_reply_error(RedisModuleCtx *ctx, const char *format, ...);

#endif

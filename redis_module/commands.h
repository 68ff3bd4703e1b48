/* SPDX-License-Identifier: MIT */
/* The commands' handlers; docs/protocol.md says what each does. */
#ifndef SLURMJCD_COMMANDS_H
#define SLURMJCD_COMMANDS_H

#include "redismodule.h"

#define JC_MODULE_VERSION "0.1.0"
#define JC_MODULE_VERSION_NUMBER 100

int jc_put_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int jc_index_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int jc_match_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int jc_fetch_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int jc_get_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int jc_agg_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int jc_info_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int jc_take_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int jc_trim_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

#endif

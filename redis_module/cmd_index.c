/* SPDX-License-Identifier: MIT */
/* SLURMJC.INDEX prefix jobid: takes in a job hash of an upstream plugin. */
#include "commands.h"
#include "put.h"
#include "reply.h"
#include "segment_type.h"
#include "upstream.h"

#include <stdio.h>

/* The row goes when the hash would have gone. */
static uint64_t ttl_of(RedisModuleKey *hash, uint64_t end)
{
    mstime_t at = RedisModule_GetAbsExpire(hash);
    uint64_t s = at > 0 ? (uint64_t)at / 1000 : 0;

    if (at == REDISMODULE_NO_EXPIRE)
        return 0;
    s = s > end ? s - end : 1;
    return s < JC_TTL_MAX ? s : JC_TTL_MAX;
}

/* Replicates what was read, not the reading: the hash may have gone there. */
static void replicate(RedisModuleCtx *ctx, RedisModuleString *prefix,
                      const struct jc_buffer *raw, uint64_t ttl)
{
    if (ttl)
        RedisModule_Replicate(ctx, "SLURMJC.PUT", "sclcb", prefix, "TTL",
                              (long long)ttl, "RECORDS", raw->p, raw->n);
    else
        RedisModule_Replicate(ctx, "SLURMJC.PUT", "scb", prefix, "RECORDS",
                              raw->p, raw->n);
}

static int store(RedisModuleCtx *ctx, RedisModuleString *prefix,
                 const struct jc_buffer *raw, uint64_t ttl)
{
    struct jc_putter p;
    struct jc_record rec;
    const char *why = jc_record_decode(&rec, raw->p, raw->n);
    char day[24];
    int n;

    if (why)
        return jc_reply_error(ctx, "BADRECORD 0 %s", why);
    jc_putter_init(&p, ctx, jc_arg(prefix));
    why = jc_putter_prepare(&p, &rec);
    if (!why)
        jc_putter_store(&p, &rec, ttl);
    jc_putter_done(&p);
    if (why)
        return RedisModule_ReplyWithError(ctx, why);
    replicate(ctx, prefix, raw, ttl);
    n = snprintf(day, sizeof(day), "%lld",
                 (long long)jc_day_of(rec.number[JC_FIELD_END].value));
    return RedisModule_ReplyWithString(
        ctx, jc_key_name(ctx, jc_arg(prefix), "seg",
                         (struct jc_slice){day, (uint32_t)n}));
}

int jc_index_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    struct jc_buffer extra = {0}, raw = {0};
    RedisModuleKey *key;
    struct jc_record rec;
    const char *why;
    uint64_t ttl;

    if (argc != 3)
        return RedisModule_WrongArity(ctx);
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    RedisModule_AutoMemory(ctx);
    key = RedisModule_OpenKey(
        ctx, jc_key_name(ctx, jc_arg(argv[1]), NULL, jc_arg(argv[2])),
        REDISMODULE_READ);
    if (!key)
        return RedisModule_ReplyWithNull(ctx);
    if (RedisModule_KeyType(key) != REDISMODULE_KEYTYPE_HASH)
        return RedisModule_ReplyWithError(ctx, REDISMODULE_ERRORMSG_WRONGTYPE);
    why = jc_upstream_record(key, &rec, &extra);
    if (why) {
        jc_reply_error(ctx, "BADRECORD 0 %s", why);
    } else {
        ttl = ttl_of(key, rec.number[JC_FIELD_END].value);
        jc_buffer_add_record(&raw, &rec);
        store(ctx, argv[1], &raw, ttl);
    }
    jc_buffer_free(&extra);
    jc_buffer_free(&raw);
    return REDISMODULE_OK;
}

/* SPDX-License-Identifier: MIT */
/* SLURMJC.TRIM prefix BEFORE t: deletes whole days. */
#include "commands.h"
#include "engine/criteria.h"
#include "store.h"

/* Drops the segment of a day; how many jobs it held. */
static long long drop(RedisModuleCtx *ctx, struct jc_slice prefix, int64_t day)
{
    RedisModuleKey *key;
    struct jc_segment *s;
    long long rows = 0;

    if (!jc_open_segment_write(ctx, prefix, day, &key, &s))
        return 0;
    if (s) {
        RedisModuleString *name = RedisModule_CreateStringFromString(
            ctx, RedisModule_GetKeyNameFromModuleKey(key));

        rows = (long long)s->rows;
        RedisModule_UnlinkKey(key); /* frees in the background */
        RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_GENERIC, "del",
                                        name);
        RedisModule_FreeString(ctx, name);
        jc_store_remove_day(RedisModule_GetSelectedDb(ctx), prefix, day);
    }
    RedisModule_CloseKey(key);
    return rows;
}

int jc_trim_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    int db = RedisModule_GetSelectedDb(ctx);
    struct jc_slice prefix;
    long long rows = 0;
    uint64_t before;
    int64_t day;

    if (argc != 4)
        return RedisModule_WrongArity(ctx);
    if (!jc_arg_is(argv[2], "BEFORE") ||
        !jc_parse_number(jc_arg(argv[3]), jc_fields[JC_FIELD_END].max,
                         &before))
        return RedisModule_ReplyWithError(ctx, "ERR syntax: SLURMJC.TRIM "
                                          "prefix BEFORE epoch-seconds");
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    prefix = jc_arg(argv[1]);
    for (day = jc_store_next_day(db, prefix, 0);
         day != JC_NO_DAY && ((uint64_t)day + 1) * JC_DAY_SECONDS <= before;
         day = jc_store_next_day(db, prefix, day + 1))
        rows += drop(ctx, prefix, day);
    RedisModule_ReplicateVerbatim(ctx);
    return RedisModule_ReplyWithLongLong(ctx, rows);
}

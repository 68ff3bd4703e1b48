/* SPDX-License-Identifier: MIT */
/* SLURMJC.TRIM prefix BEFORE t | DAY d [IF stamp]: deletes whole days. */
#include "commands.h"
#include "engine/criteria.h"
#include "segment_type.h"
#include "store.h"
#include "task.h"

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
        jc_segments_trimmed(true);
        RedisModule_UnlinkKey(key); /* frees in the background */
        jc_segments_trimmed(false);
        RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_GENERIC, "del",
                                        name);
        RedisModule_FreeString(ctx, name);
        jc_store_remove_day(RedisModule_GetSelectedDb(ctx), prefix, day);
    }
    RedisModule_CloseKey(key);
    return rows;
}

struct trimming {
    RedisModuleString *name; /* the prefix, which the client may take along */
    struct jc_slice prefix;
    int db;
    uint64_t before;
    int64_t day; /* to go on from */
    long long rows;
    bool replica; /* the server became one */
};

/* Whatever is dropped in one turn reaches replicas as a TRIM of so much. */
static void tell(RedisModuleCtx *ctx, const struct trimming *t, int64_t day)
{
    RedisModule_Replicate(ctx, "SLURMJC.TRIM", "scl", t->name, "BEFORE",
                          (long long)(day + 1) * JC_DAY_SECONDS);
}

/* Drops one day. */
static bool trim_step(RedisModuleCtx *ctx, void *data)
{
    struct trimming *t = data;
    int flags = RedisModule_GetContextFlags(ctx);
    int64_t day = jc_store_next_day(t->db, t->prefix, t->day);

    if (day == JC_NO_DAY || ((uint64_t)day + 1) * JC_DAY_SECONDS > t->before)
        return true;
    t->replica = (flags & REDISMODULE_CTX_FLAGS_SLAVE) &&
                 !(flags & REDISMODULE_CTX_FLAGS_REPLICATED);
    if (t->replica)
        return true;
    t->rows += drop(ctx, t->prefix, day);
    t->day = day + 1;
    tell(ctx, t, day);
    return false;
}

static void trim_reply(RedisModuleCtx *ctx, void *data, bool cut)
{
    const struct trimming *t = data;

    (void)cut;
    if (t->replica)
        RedisModule_ReplyWithError(ctx, "READONLY the server became a replica "
                                   "before all was trimmed");
    else
        RedisModule_ReplyWithLongLong(ctx, t->rows);
}

static void trim_free(void *data)
{
    struct trimming *t = data;

    RedisModule_FreeString(NULL, t->name);
    RedisModule_Free(t);
}

static const struct jc_task_kind trim_task = {trim_step, trim_reply, trim_free,
                                              NULL};

/* Where nobody can wait, as in MULTI or on a replica, it is done at once: it
 * has to be done all the same. */
static bool must_not_wait(RedisModuleCtx *ctx)
{
    return RedisModule_GetContextFlags(ctx) &
           (REDISMODULE_CTX_FLAGS_MULTI | REDISMODULE_CTX_FLAGS_LUA |
            REDISMODULE_CTX_FLAGS_DENY_BLOCKING |
            REDISMODULE_CTX_FLAGS_REPLICATED | REDISMODULE_CTX_FLAGS_LOADING);
}

static int reply_syntax(RedisModuleCtx *ctx)
{
    return RedisModule_ReplyWithError(ctx, "ERR syntax: SLURMJC.TRIM prefix "
                                      "BEFORE epoch-seconds or DAY d [IF "
                                      "stamp]");
}

/* Is the day as it was when INFO gave that stamp? A day without jobs is. */
static bool is_unchanged(RedisModuleCtx *ctx, struct jc_slice prefix,
                         int64_t day, struct jc_slice stamp)
{
    RedisModuleKey *key;
    const struct jc_segment *s = jc_open_segment(ctx, prefix, day, &key);
    char now[JC_STAMP_BYTES];
    bool same = true;

    if (s) {
        jc_segment_stamp(s, now);
        same = stamp.n == strlen(now) && !memcmp(stamp.p, now, stamp.n);
    }
    if (key)
        RedisModule_CloseKey(key);
    return same;
}

/* DAY d [IF stamp]: one day, and only if it is what the caller has seen. */
static int trim_day(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    uint64_t day;

    if (!jc_parse_number(jc_arg(argv[3]),
                         jc_fields[JC_FIELD_END].max / JC_DAY_SECONDS, &day) ||
        (argc == 6 && !jc_arg_is(argv[4], "IF")))
        return reply_syntax(ctx);
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    if (argc == 6 && !is_unchanged(ctx, jc_arg(argv[1]), (int64_t)day,
                                   jc_arg(argv[5])))
        return RedisModule_ReplyWithNull(ctx);
    RedisModule_ReplyWithLongLong(
        ctx, drop(ctx, jc_arg(argv[1]), (int64_t)day));
    return RedisModule_Replicate(ctx, "SLURMJC.TRIM", "scl", argv[1], "DAY",
                                 (long long)day);
}

static int trim_before(RedisModuleCtx *ctx, RedisModuleString **argv)
{
    struct trimming *t;
    uint64_t before;

    if (!jc_arg_is(argv[2], "BEFORE") ||
        !jc_parse_number(jc_arg(argv[3]), jc_fields[JC_FIELD_END].max,
                         &before))
        return reply_syntax(ctx);
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    t = RedisModule_Calloc(1, sizeof(*t));
    t->name = RedisModule_CreateStringFromString(NULL, argv[1]);
    t->prefix = jc_arg(t->name);
    t->db = RedisModule_GetSelectedDb(ctx);
    t->before = before;
    if (!must_not_wait(ctx))
        return jc_task_run(ctx, &trim_task, t);
    while (!trim_step(ctx, t))
        ;
    trim_reply(ctx, t, false);
    trim_free(t);
    return REDISMODULE_OK;
}

int jc_trim_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    if (argc != 4 && argc != 6)
        return RedisModule_WrongArity(ctx);
    if (jc_arg_is(argv[2], "DAY"))
        return trim_day(ctx, argv, argc);
    return argc == 4 ? trim_before(ctx, argv) : reply_syntax(ctx);
}

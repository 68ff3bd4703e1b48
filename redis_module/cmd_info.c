/* SPDX-License-Identifier: MIT */
/* SLURMJC.INFO prefix [SEGMENTS | REPLICATION] */
#include "commands.h"
#include "event_stream.h"
#include "queries.h"
#include "segment_type.h"

#include <string.h>

struct totals {
    uint64_t jobs, bytes, segments;
    uint64_t oldest, newest; /* end times */
};

struct replying {
    RedisModuleCtx *ctx;
    long pairs;
};

/* ---- the prefix ---- */

static void add_segment(struct totals *t, const struct jc_segment *s)
{
    const struct jc_block *last = s->order[s->blocks - 1];
    uint64_t first = jc_block_code(s->order[0], 0, JC_FIELD_END);

    if (!t->segments)
        t->oldest = first;
    t->newest = jc_block_code(last, last->rows - 1, JC_FIELD_END);
    t->jobs += s->rows;
    t->bytes += jc_segment_bytes(s);
    t->segments++;
}

static struct totals totals_of(RedisModuleCtx *ctx, struct jc_slice prefix)
{
    int db = RedisModule_GetSelectedDb(ctx);
    struct totals t = {0};

    for (int64_t day = jc_store_next_day(db, prefix, 0); day != JC_NO_DAY;
         day = jc_store_next_day(db, prefix, day + 1)) {
        RedisModuleKey *key;
        const struct jc_segment *s = jc_open_segment(ctx, prefix, day, &key);

        if (s)
            add_segment(&t, s);
        if (key)
            RedisModule_CloseKey(key);
    }
    return t;
}

/* ---- pairs of the reply ---- */

static void name(struct replying *rp, const char *text)
{
    RedisModule_ReplyWithCString(rp->ctx, text);
    rp->pairs++;
}

static void pair_number(struct replying *rp, const char *text, uint64_t v)
{
    name(rp, text);
    RedisModule_ReplyWithLongLong(rp->ctx, (long long)v);
}

static void pair_text(struct replying *rp, const char *text, const char *v)
{
    name(rp, text);
    RedisModule_ReplyWithCString(rp->ctx, v);
}

static void pair_end(struct replying *rp, const char *text, uint64_t jobs,
                     uint64_t v)
{
    if (jobs) {
        pair_number(rp, text, v);
        return;
    }
    name(rp, text);
    RedisModule_ReplyWithNull(rp->ctx);
}

static void reply_watermarks(struct replying *rp, struct jc_slice prefix)
{
    RedisModuleString *key =
        jc_key_name(rp->ctx, prefix, NULL, (struct jc_slice){"spools", 6});
    RedisModuleCallReply *reply =
        RedisModule_Call(rp->ctx, "HGETALL", "s", key);
    size_t n = 0;

    name(rp, "watermarks");
    if (reply && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ARRAY)
        n = RedisModule_CallReplyLength(reply);
    RedisModule_ReplyWithArray(rp->ctx, (long)n);
    for (size_t i = 0; i < n; i++) {
        size_t len = 0;
        const char *p = RedisModule_CallReplyStringPtr(
            RedisModule_CallReplyArrayElement(reply, i), &len);
        uint64_t seq;

        if (i % 2 && jc_parse_number((struct jc_slice){p, (uint32_t)len},
                                     INT64_MAX, &seq))
            RedisModule_ReplyWithLongLong(rp->ctx, (long long)seq);
        else
            RedisModule_ReplyWithStringBuffer(rp->ctx, p, len);
    }
    if (reply)
        RedisModule_FreeCallReply(reply);
    RedisModule_FreeString(rp->ctx, key);
}

/* How many events there are, and the first and the last id. That the reply has
 * them says that PUT takes EVENTS. */
static void reply_events(struct replying *rp, struct jc_slice prefix)
{
    struct jc_events_span span = jc_events_span(rp->ctx, prefix);

    pair_number(rp, "events", span.length);
    pair_number(rp, "events_added", span.added);
    pair_text(rp, "events_first", span.first);
    pair_text(rp, "events_last", span.last);
}

/* What is in a segment, in a word: as long as this server runs the same word
 * means the same records. */
static void reply_stamp(RedisModuleCtx *ctx, const struct jc_segment *s)
{
    char stamp[JC_STAMP_BYTES];

    jc_segment_stamp(s, stamp);
    RedisModule_ReplyWithCString(ctx, stamp);
}

/* One segment a row: day, jobs, bytes, when it expires (epoch milliseconds, nil:
 * never), stamp. */
static void reply_segments(struct replying *rp, struct jc_slice prefix)
{
    int db = RedisModule_GetSelectedDb(rp->ctx);
    long rows = 0;

    name(rp, "segment_sizes");
    RedisModule_ReplyWithArray(rp->ctx, REDISMODULE_POSTPONED_LEN);
    for (int64_t day = jc_store_next_day(db, prefix, 0); day != JC_NO_DAY;
         day = jc_store_next_day(db, prefix, day + 1)) {
        RedisModuleKey *key;
        const struct jc_segment *s = jc_open_segment(rp->ctx, prefix, day, &key);
        mstime_t expires;

        if (s) {
            expires = RedisModule_GetAbsExpire(key);
            RedisModule_ReplyWithArray(rp->ctx, 5);
            RedisModule_ReplyWithLongLong(rp->ctx, day);
            RedisModule_ReplyWithLongLong(rp->ctx, (long long)s->rows);
            RedisModule_ReplyWithLongLong(rp->ctx,
                                          (long long)jc_segment_bytes(s));
            if (expires == REDISMODULE_NO_EXPIRE)
                RedisModule_ReplyWithNull(rp->ctx);
            else
                RedisModule_ReplyWithLongLong(rp->ctx, expires);
            reply_stamp(rp->ctx, s);
            rows++;
        }
        if (key)
            RedisModule_CloseKey(key);
    }
    RedisModule_ReplySetArrayLength(rp->ctx, rows);
}

/* ---- the server ---- */

/* A field of Redis' INFO; left out when it has none. */
static void pair_info(struct replying *rp, RedisModuleServerInfoData *info,
                      const char *field, const char *text)
{
    const char *v = RedisModule_ServerInfoGetFieldC(info, field);

    if (v)
        pair_text(rp, text, v);
}

static void pair_info_number(struct replying *rp,
                             RedisModuleServerInfoData *info,
                             const char *field, const char *text)
{
    int err = REDISMODULE_OK;
    unsigned long long v =
        RedisModule_ServerInfoGetFieldUnsigned(info, field, &err);

    if (err == REDISMODULE_OK)
        pair_number(rp, text, v);
}

/* A setting no INFO field has. */
static void pair_config(struct replying *rp, const char *setting)
{
    RedisModuleCallReply *reply =
        RedisModule_Call(rp->ctx, "CONFIG", "cc", "GET", setting), *e;
    const char *p = NULL;
    size_t n = 0;

    if (reply && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ARRAY) {
        e = RedisModule_CallReplyArrayElement(reply, 1);
        p = e ? RedisModule_CallReplyStringPtr(e, &n) : NULL;
    }
    if (p) {
        name(rp, setting);
        RedisModule_ReplyWithStringBuffer(rp->ctx, p, n);
    }
    if (reply)
        RedisModule_FreeCallReply(reply);
}

static void reply_server(struct replying *rp)
{
    static const char *const statuses[] = {"aof_last_write_status",
                                           "aof_last_bgrewrite_status",
                                           "rdb_last_bgsave_status"};
    RedisModuleServerInfoData *info = RedisModule_GetServerInfo(rp->ctx, "all");
    bool valkey = RedisModule_ServerInfoGetFieldC(info, "valkey_version");

    pair_text(rp, "server", valkey ? "valkey" : "redis");
    pair_info(rp, info, valkey ? "valkey_version" : "redis_version",
              "server_version");
    pair_info(rp, info, "role", "role");
    pair_info(rp, info, "master_link_status", "master_link_status");
    pair_info_number(rp, info, "master_last_io_seconds_ago",
                     "master_last_io_seconds_ago");
    pair_info(rp, info, "run_id", "run_id");
    pair_info_number(rp, info, "connected_slaves", "replicas");
    pair_info_number(rp, info, "aof_enabled", "aof_enabled");
    pair_config(rp, "appendfsync");
    pair_info_number(rp, info, "maxmemory", "maxmemory");
    pair_info(rp, info, "maxmemory_policy", "maxmemory_policy");
    pair_info_number(rp, info, "used_memory", "used_memory");
    pair_info_number(rp, info, "total_system_memory", "total_system_memory");
    pair_info_number(rp, info, "aof_current_size", "aof_current_size");
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        pair_info(rp, info, statuses[i], statuses[i]);
    pair_config(rp, "dir");
    pair_number(rp, "time_ms", (uint64_t)RedisModule_Milliseconds());
    pair_config(rp, "propagation-error-behavior");
    pair_number(rp, "waitaof", RedisModule_GetServerVersion() >= 0x00070200);
    RedisModule_FreeServerInfo(rp->ctx, info);
}

/* What tells, asked of a master and of its replica, whether the replica has all
 * that the master has. Of a replica the offset is what it has applied. */
static int reply_replication(RedisModuleCtx *ctx)
{
    struct replying rp = {.ctx = ctx};
    RedisModuleServerInfoData *info =
        RedisModule_GetServerInfo(ctx, "replication");
    bool replica = RedisModule_GetContextFlags(ctx) &
                   REDISMODULE_CTX_FLAGS_SLAVE;

    RedisModule_ReplyWithMap(ctx, REDISMODULE_POSTPONED_LEN);
    pair_info(&rp, info, "role", "role");
    pair_info(&rp, info, "master_link_status", "master_link_status");
    pair_info_number(&rp, info, "master_last_io_seconds_ago",
                     "master_last_io_seconds_ago");
    pair_info(&rp, info, "master_replid", "replid");
    pair_info_number(&rp, info, replica ? "slave_repl_offset"
                                        : "master_repl_offset", "offset");
    pair_number(&rp, "segments_gone", jc_segments_gone());
    pair_number(&rp, "flushes", jc_store_flushes());
    RedisModule_ReplySetMapLength(ctx, rp.pairs);
    RedisModule_FreeServerInfo(ctx, info);
    return REDISMODULE_OK;
}

int jc_info_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    struct replying rp = {.ctx = ctx};
    bool segments, replication;
    struct jc_slice prefix;
    struct totals t;

    if (argc < 2 || argc > 3)
        return RedisModule_WrongArity(ctx);
    segments = argc == 3 && jc_arg_is(argv[2], "SEGMENTS");
    replication = argc == 3 && jc_arg_is(argv[2], "REPLICATION");
    if (argc == 3 && !segments && !replication)
        return RedisModule_ReplyWithError(
            ctx, "ERR syntax: SLURMJC.INFO prefix [SEGMENTS | REPLICATION]");
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    if (replication)
        return reply_replication(ctx);
    prefix = jc_arg(argv[1]);
    t = totals_of(ctx, prefix);
    RedisModule_ReplyWithMap(ctx, REDISMODULE_POSTPONED_LEN);
    pair_text(&rp, "module_version", JC_MODULE_VERSION);
    pair_number(&rp, "protocol", 1);
    pair_number(&rp, "record", JC_RECORD_VERSION);
    reply_server(&rp);
    pair_number(&rp, "jobs", t.jobs);
    pair_number(&rp, "bytes", t.bytes);
    pair_number(&rp, "bytes_per_job", t.jobs ? t.bytes / t.jobs : 0);
    pair_end(&rp, "oldest", t.jobs, t.oldest);
    pair_end(&rp, "newest", t.jobs, t.newest);
    pair_number(&rp, "segments", t.segments);
    pair_number(&rp, "queries",
                jc_query_count(RedisModule_GetSelectedDb(ctx), prefix));
    reply_watermarks(&rp, prefix);
    reply_events(&rp, prefix);
    if (segments)
        reply_segments(&rp, prefix);
    RedisModule_ReplySetMapLength(ctx, rp.pairs);
    return REDISMODULE_OK;
}

/* SPDX-License-Identifier: MIT */
/* SLURMJC.INDEX prefix jobid: takes in a job hash of an upstream plugin. */
#include "commands.h"
#include "event_stream.h"
#include "put.h"
#include "reply.h"
#include "segment_type.h"
#include "upstream.h"

#include <stdio.h>
#include <string.h>

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

/* The arguments of a PUT that do as this command did, built one by one. */
struct words {
    RedisModuleString *word[8];
    size_t n;
};

static void word(struct words *w, const char *text)
{
    w->word[w->n++] = RedisModule_CreateString(NULL, text, strlen(text));
}

static void number(struct words *w, uint64_t v)
{
    w->word[w->n++] =
        RedisModule_CreateStringFromLongLong(NULL, (long long)v);
}

/* Replicates what was read, not the reading: the hash may have gone there.
 * events_ms: of the event, 0 = there was none. */
static void replicate(RedisModuleCtx *ctx, RedisModuleString *prefix,
                      const struct jc_buffer *raw, uint64_t ttl,
                      uint64_t events_ms)
{
    struct words w = {0};

    if (ttl) {
        word(&w, "TTL");
        number(&w, ttl);
    }
    if (events_ms) {
        word(&w, "EVENTS");
        number(&w, 0);
        number(&w, events_ms);
    }
    word(&w, "RECORDS");
    RedisModule_Replicate(ctx, "SLURMJC.PUT", "svb", prefix, w.word, w.n,
                          raw->p, raw->n);
    while (w.n)
        RedisModule_FreeString(NULL, w.word[--w.n]);
}

static int store(RedisModuleCtx *ctx, RedisModuleString *prefix,
                 const struct jc_buffer *raw, uint64_t ttl)
{
    struct jc_slice name = jc_arg(prefix);
    struct jc_events ev = {0};
    struct jc_putter p;
    struct jc_record rec;
    const char *why = jc_record_decode(&rec, raw->p, raw->n);
    enum jc_put stored = JC_PUT_KNOWN;
    uint64_t ms = 0;
    char day[24];
    int n;

    if (why)
        return jc_reply_error(ctx, "BADRECORD 0 %s", why);
    /* whether and how long events are kept is the daemon's to say in PUT */
    if (jc_events_wanted(ctx, name)) {
        ms = (uint64_t)RedisModule_Milliseconds();
        why = jc_events_open(&ev, ctx, name, 0, ms, 1);
        if (why)
            return RedisModule_ReplyWithError(ctx, why);
    }
    jc_putter_init(&p, ctx, name);
    why = jc_putter_prepare(&p, &rec);
    if (!why)
        stored = jc_putter_store(&p, &rec, ttl);
    jc_putter_done(&p);
    if (ev.key && stored != JC_PUT_KNOWN)
        jc_events_add(&ev, &rec, (struct jc_slice){0}, 0,
                      stored == JC_PUT_REPLACED);
    jc_events_close(&ev);
    if (why)
        return RedisModule_ReplyWithError(ctx, why);
    replicate(ctx, prefix, raw, ttl, ms);
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

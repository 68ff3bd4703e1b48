/* SPDX-License-Identifier: MIT */
/* SLURMJC.INDEX prefix jobid: takes in a job hash of an upstream plugin. */
#include "commands.h"
#include "event_stream.h"
#include "hash_intake.h"
#include "put.h"
#include "reply.h"

#include <stdio.h>
#include <string.h>

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
                 struct jc_hash *h)
{
    struct jc_slice name = jc_arg(prefix);
    uint64_t ms = 0, ttl = jc_hash_ttl(h, 0);
    struct jc_events ev = {0};
    enum jc_put stored = JC_PUT_KNOWN;
    const char *why = NULL;
    struct jc_putter p;
    char day[24];
    int n;

    /* whether and how long events are kept is the daemon's to say in PUT */
    if (jc_events_wanted(ctx, name)) {
        ms = (uint64_t)RedisModule_Milliseconds();
        why = jc_events_open(&ev, ctx, name, 0, ms, 1);
        if (why)
            return RedisModule_ReplyWithError(ctx, why);
    }
    jc_putter_init(&p, ctx, name);
    why = jc_putter_prepare(&p, &h->rec);
    if (!why)
        stored = jc_putter_store(&p, &h->rec, ttl);
    jc_putter_done(&p);
    if (ev.key && stored != JC_PUT_KNOWN)
        jc_events_add(&ev, &h->rec, (struct jc_slice){0}, 0,
                      stored == JC_PUT_REPLACED);
    jc_events_close(&ev);
    if (why)
        return RedisModule_ReplyWithError(ctx, why);
    replicate(ctx, prefix, &h->raw, ttl, ms);
    jc_hash_unlink(h, ctx);
    RedisModule_Replicate(ctx, "UNLINK", "s", h->name);
    n = snprintf(day, sizeof(day), "%lld",
                 (long long)jc_day_of(h->rec.number[JC_FIELD_END].value));
    return RedisModule_ReplyWithString(
        ctx, jc_key_name(ctx, jc_arg(prefix), "seg",
                         (struct jc_slice){day, (uint32_t)n}));
}

int jc_index_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    RedisModuleKey *named;
    struct jc_slice cluster;
    const char *why = NULL;
    struct jc_hash h;

    if (argc != 3)
        return RedisModule_WrongArity(ctx);
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    RedisModule_AutoMemory(ctx);
    cluster = jc_hash_cluster(ctx, jc_arg(argv[1]), &named);
    switch (jc_hash_open(&h, ctx, jc_arg(argv[1]), jc_arg(argv[2]), cluster,
                         &why)) {
    case JC_HASH_JOB:
        store(ctx, argv[1], &h);
        break;
    case JC_HASH_NONE:
        RedisModule_ReplyWithNull(ctx);
        break;
    case JC_HASH_OTHER:
        RedisModule_ReplyWithError(ctx, REDISMODULE_ERRORMSG_WRONGTYPE);
        break;
    case JC_HASH_BAD:
        jc_reply_error(ctx, "BADRECORD 0 %s", why);
        break;
    }
    jc_hash_close(&h);
    if (named)
        RedisModule_CloseKey(named);
    return REDISMODULE_OK;
}

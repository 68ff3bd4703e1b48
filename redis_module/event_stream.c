/* SPDX-License-Identifier: MIT */
#include "event_stream.h"

#include "engine/event.h"
#include "engine/host.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

RedisModuleString *jc_events_name(RedisModuleCtx *ctx, struct jc_slice prefix)
{
    return jc_key_name(ctx, prefix, NULL, (struct jc_slice){"events", 6});
}

bool jc_events_wanted(RedisModuleCtx *ctx, struct jc_slice prefix)
{
    RedisModuleString *name = jc_events_name(ctx, prefix);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    bool is = RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_STREAM;

    RedisModule_FreeString(ctx, name);
    RedisModule_CloseKey(key);
    return is;
}

/* ---- ids ---- */

/* A value of XINFO STREAM; NULL: it has none of that name. */
static RedisModuleCallReply *value_of(RedisModuleCallReply *reply,
                                      const char *name)
{
    size_t n = reply ? RedisModule_CallReplyLength(reply) : 0;

    for (size_t i = 0; i + 1 < n; i += 2) {
        size_t len = 0;
        const char *p = RedisModule_CallReplyStringPtr(
            RedisModule_CallReplyArrayElement(reply, i), &len);

        if (p && len == strlen(name) && !memcmp(p, name, len))
            return RedisModule_CallReplyArrayElement(reply, i + 1);
    }
    return NULL;
}

static void copy_id(char to[JC_EVENT_ID_BYTES], RedisModuleCallReply *reply,
                    const char *name)
{
    RedisModuleCallReply *value = value_of(reply, name);
    size_t len = 0;
    const char *p = value ? RedisModule_CallReplyStringPtr(value, &len) : NULL;

    if (!p || len >= JC_EVENT_ID_BYTES)
        len = 0;
    memcpy(to, len ? p : "0-0", len ? len : 3);
    to[len ? len : 3] = 0;
}

static uint64_t count_of(RedisModuleCallReply *reply, const char *name)
{
    RedisModuleCallReply *value = value_of(reply, name);

    return value ? (uint64_t)RedisModule_CallReplyInteger(value) : 0;
}

static struct jc_events_span span_of(RedisModuleCtx *ctx,
                                     RedisModuleString *name)
{
    struct jc_events_span span = {.first = "0-0", .last = "0-0"};
    RedisModuleCallReply *reply =
        RedisModule_Call(ctx, "XINFO", "cs", "STREAM", name);

    if (reply && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ARRAY) {
        span.length = count_of(reply, "length");
        span.added = count_of(reply, "entries-added");
        copy_id(span.first, reply, "recorded-first-entry-id");
        copy_id(span.last, reply, "last-generated-id");
    }
    if (reply)
        RedisModule_FreeCallReply(reply);
    return span;
}

struct jc_events_span jc_events_span(RedisModuleCtx *ctx,
                                     struct jc_slice prefix)
{
    RedisModuleString *name = jc_events_name(ctx, prefix);
    struct jc_events_span span = span_of(ctx, name);

    RedisModule_FreeString(ctx, name);
    return span;
}

/* The id behind `last` that is not before ms; false when there is none left. */
static bool next_id(RedisModuleStreamID *next, RedisModuleStreamID last,
                    uint64_t ms, uint64_t records)
{
    if (ms > last.ms) {
        *next = (RedisModuleStreamID){ms, 0};
    } else if (last.seq < UINT64_MAX - records) {
        *next = (RedisModuleStreamID){last.ms, last.seq + 1};
    } else {
        if (last.ms == UINT64_MAX)
            return false;
        *next = (RedisModuleStreamID){last.ms + 1, 0};
    }
    if (!next->ms && !next->seq)
        next->seq = 1; /* 0-0 is no id */
    return true;
}

const char *jc_events_open(struct jc_events *ev, RedisModuleCtx *ctx,
                           struct jc_slice prefix, uint64_t keep, uint64_t ms,
                           uint64_t records)
{
    RedisModuleString *name = jc_events_name(ctx, prefix);
    RedisModuleStreamID last = {0, 0};
    struct jc_events_span span;
    const char *why = NULL;
    int type;

    *ev = (struct jc_events){.ctx = ctx, .keep = keep};
    ev->key =
        RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    type = RedisModule_KeyType(ev->key);
    if (type == REDISMODULE_KEYTYPE_STREAM) {
        /* not its last entry's, which somebody may have deleted */
        span = span_of(ctx, name);
        sscanf(span.last, "%" SCNu64 "-%" SCNu64, &last.ms, &last.seq);
    }
    if (type != REDISMODULE_KEYTYPE_STREAM &&
        type != REDISMODULE_KEYTYPE_EMPTY)
        why = "WRONGTYPE the key of the events holds something else than a "
              "stream";
    else if (!next_id(&ev->next, last, ms, records))
        why = "ERR the stream of events has no ids left: delete its key";
    RedisModule_FreeString(ctx, name);
    if (why) {
        RedisModule_CloseKey(ev->key);
        ev->key = NULL;
    }
    return why;
}

/* ---- entries ---- */

#define TEXT_KEPT 65536 /* bytes of memory that stay for the next entry */

static char *text;
static size_t text_room;

static void make_room(size_t bytes)
{
    if (bytes <= text_room)
        return;
    text_room = bytes < TEXT_KEPT ? TEXT_KEPT : bytes;
    if (text)
        jc_host.free(text);
    text = jc_host.alloc(text_room);
}

static void give_room_back(void)
{
    if (text_room <= TEXT_KEPT)
        return;
    jc_host.free(text);
    text = NULL;
    text_room = 0;
}

void jc_events_add(struct jc_events *ev, const struct jc_record *rec,
                   struct jc_slice spool, uint64_t seq, bool again)
{
    static RedisModuleString *name;
    struct jc_event event = {rec, spool, seq, again};
    RedisModuleString *pair[2];

    make_room(jc_event_max(&event));
    if (!name)
        name = RedisModule_CreateString(NULL, "event", 5);
    pair[0] = name;
    pair[1] = RedisModule_CreateString(NULL, text,
                                       jc_event_write(&event, text));
    if (RedisModule_StreamAdd(ev->key, 0, &ev->next, pair, 1) !=
        REDISMODULE_OK)
        RedisModule_Log(ev->ctx, "warning", "an event was refused at %" PRIu64
                        "-%" PRIu64, ev->next.ms, ev->next.seq);
    RedisModule_FreeString(NULL, pair[1]);
    ev->next.seq++;
    ev->added++;
    give_room_back();
}

void jc_events_close(struct jc_events *ev)
{
    if (!ev->key)
        return;
    if (ev->keep && ev->added)
        RedisModule_StreamTrimByLength(ev->key, 0, (long long)ev->keep);
    RedisModule_CloseKey(ev->key);
    ev->key = NULL;
}

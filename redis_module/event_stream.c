/* SPDX-License-Identifier: MIT */
#include "event_stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum field {
    FIELD_ID,
    FIELD_JOB,
    FIELD_JOB_ID,
    FIELD_CLUSTER,
    FIELD_UID,
    FIELD_USER,
    FIELD_ACCOUNT,
    FIELD_PARTITION,
    FIELD_NAME,
    FIELD_STATE,
    FIELD_EXIT,
    FIELD_SUBMIT,
    FIELD_START,
    FIELD_END,
    FIELD_RESTARTS,
    FIELD_AGAIN, /* the last, for not every entry has it */
    FIELDS,
};

static const char *const field_name[FIELDS] = {
    "id", "job", "job_id", "cluster", "uid", "user", "account", "partition",
    "name", "state", "exit", "submit", "start", "end", "restarts", "again",
};

/* As sacct calls them; flags before base states, see slurmjcd/slurm/states.py */
static const char *const state_name[] = {
    "PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "CANCELLED", "FAILED",
    "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE",
    "OUT_OF_MEMORY",
};
static const struct {
    uint32_t bit;
    const char *name;
} state_flag[] = {
    {UINT32_C(1) << 10, "REQUEUED"},     {UINT32_C(1) << 11, "REQUEUE_HOLD"},
    {UINT32_C(1) << 12, "SPECIAL_EXIT"}, {UINT32_C(1) << 13, "RESIZING"},
    {UINT32_C(1) << 19, "REVOKED"},      {UINT32_C(1) << 20, "REQUEUE_FED"},
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

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

static RedisModuleString *text(const char *p, size_t n)
{
    return RedisModule_CreateString(NULL, p ? p : "", n);
}

static RedisModuleString *number(const struct jc_record *rec, int field)
{
    const struct jc_number *v = &rec->number[field];

    if (!v->known)
        return text("", 0);
    return RedisModule_CreateStringFromLongLong(NULL, (long long)v->value);
}

static RedisModuleString *string(const struct jc_record *rec, int field)
{
    return text(rec->string[field].p, rec->string[field].n);
}

/* 100, 100_5 or 100+1, as in sacct */
static RedisModuleString *shown_id(const struct jc_record *rec)
{
    const struct jc_number *v = rec->number;
    char s[64];
    int n;

    if (v[JC_FIELD_ARRAY_JOB_ID].known && v[JC_FIELD_ARRAY_JOB_ID].value &&
        v[JC_FIELD_ARRAY_TASK_ID].known)
        n = snprintf(s, sizeof(s), "%" PRIu64 "_%" PRIu64,
                     v[JC_FIELD_ARRAY_JOB_ID].value,
                     v[JC_FIELD_ARRAY_TASK_ID].value);
    else if (v[JC_FIELD_HET_JOB_ID].known && v[JC_FIELD_HET_JOB_ID].value &&
             v[JC_FIELD_HET_JOB_OFFSET].known)
        n = snprintf(s, sizeof(s), "%" PRIu64 "+%" PRIu64,
                     v[JC_FIELD_HET_JOB_ID].value,
                     v[JC_FIELD_HET_JOB_OFFSET].value);
    else
        return number(rec, JC_FIELD_JOB_ID);
    return text(s, (size_t)n);
}

static RedisModuleString *state(const struct jc_record *rec)
{
    uint64_t base = rec->number[JC_FIELD_STATE].value;
    const char *name;

    for (size_t i = 0; i < COUNT(state_flag); i++)
        if (rec->state_flags & state_flag[i].bit)
            return text(state_flag[i].name, strlen(state_flag[i].name));
    if (base >= COUNT(state_name))
        return number(rec, JC_FIELD_STATE);
    name = state_name[base];
    return text(name, strlen(name));
}

/* code:signal of a wait status */
static RedisModuleString *exit_text(const struct jc_record *rec)
{
    const struct jc_number *v = &rec->number[JC_FIELD_EXIT_CODE];
    unsigned signal = v->value & 0x7f;
    char s[16];
    int n;

    if (!v->known)
        return text("", 0);
    n = snprintf(s, sizeof(s), "%u:%u",
                 signal ? 0 : (unsigned)(v->value >> 8) & 0xff, signal);
    return text(s, (size_t)n);
}

static RedisModuleString *origin(struct jc_slice spool, uint64_t seq)
{
    char s[96];
    int n;

    if (!spool.n)
        return text("", 0);
    n = snprintf(s, sizeof(s), "%.*s/%" PRIu64, (int)spool.n, spool.p, seq);
    return text(s, (size_t)n);
}

/* The names are made once. */
static RedisModuleString *name_of(enum field i)
{
    static RedisModuleString *names[FIELDS];

    if (!names[i])
        names[i] = text(field_name[i], strlen(field_name[i]));
    return names[i];
}

void jc_events_add(struct jc_events *ev, const struct jc_record *rec,
                   struct jc_slice spool, uint64_t seq, bool again)
{
    RedisModuleString *value[FIELDS] = {
        [FIELD_ID] = origin(spool, seq),
        [FIELD_JOB] = shown_id(rec),
        [FIELD_JOB_ID] = number(rec, JC_FIELD_JOB_ID),
        [FIELD_CLUSTER] = string(rec, JC_FIELD_CLUSTER),
        [FIELD_UID] = number(rec, JC_FIELD_UID),
        [FIELD_USER] = string(rec, JC_FIELD_USER),
        [FIELD_ACCOUNT] = string(rec, JC_FIELD_ACCOUNT),
        [FIELD_PARTITION] = string(rec, JC_FIELD_PARTITION),
        [FIELD_NAME] = string(rec, JC_FIELD_NAME),
        [FIELD_STATE] = state(rec),
        [FIELD_EXIT] = exit_text(rec),
        [FIELD_SUBMIT] = number(rec, JC_FIELD_SUBMIT),
        [FIELD_START] = number(rec, JC_FIELD_START),
        [FIELD_END] = number(rec, JC_FIELD_END),
        [FIELD_RESTARTS] = number(rec, JC_FIELD_RESTART_COUNT),
        [FIELD_AGAIN] = again ? text("1", 1) : NULL,
    };
    RedisModuleString *pair[2 * FIELDS];
    int64_t fields = again ? FIELDS : FIELD_AGAIN;

    for (int64_t i = 0; i < fields; i++) {
        pair[2 * i] = name_of((enum field)i);
        pair[2 * i + 1] = value[i];
    }
    if (RedisModule_StreamAdd(ev->key, 0, &ev->next, pair, fields) !=
        REDISMODULE_OK)
        RedisModule_Log(ev->ctx, "warning", "an event was refused at %" PRIu64
                        "-%" PRIu64, ev->next.ms, ev->next.seq);
    ev->next.seq++;
    ev->added++;
    for (int64_t i = 0; i < fields; i++)
        RedisModule_FreeString(NULL, value[i]);
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

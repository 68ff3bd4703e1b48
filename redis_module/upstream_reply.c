/* SPDX-License-Identifier: MIT */
#include "upstream.h"

#include <stdio.h>
#include <time.h>

/* Slurm's bits beside the base state that are an outcome of their own. */
#define REQUEUED (UINT32_C(1) << 10)
#define REVOKED (UINT32_C(1) << 19)

static void reply_string(RedisModuleCtx *ctx, struct jc_slice s)
{
    if (s.p)
        RedisModule_ReplyWithStringBuffer(ctx, s.p, s.n);
    else
        RedisModule_ReplyWithNull(ctx);
}

static void reply_number(RedisModuleCtx *ctx, uint64_t v)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)v);

    RedisModule_ReplyWithStringBuffer(ctx, text, (size_t)n);
}

static void reply_time(RedisModuleCtx *ctx, uint64_t t, bool iso)
{
    char text[40];
    time_t when = (time_t)t;
    struct tm tm;

    if (!iso) {
        reply_number(ctx, t);
        return;
    }
    gmtime_r(&when, &tm);
    RedisModule_ReplyWithStringBuffer(
        ctx, text, strftime(text, sizeof(text), JC_ISO_TIME, &tm));
}

/* code:signal, absent when both are 0. */
static void reply_status(RedisModuleCtx *ctx, struct jc_number status)
{
    char text[24];
    unsigned code = (unsigned)(status.value >> 8) & 0xff;
    unsigned sig = (unsigned)status.value & 0x7f;
    int n = snprintf(text, sizeof(text), "%u:%u", code, sig);

    if (code || sig)
        RedisModule_ReplyWithStringBuffer(ctx, text, (size_t)n);
    else
        RedisModule_ReplyWithNull(ctx);
}

/* Of flags the one whose name sacct shows, before the base state. */
static void reply_state(RedisModuleCtx *ctx, const struct jc_record *rec)
{
    static const uint32_t shown[] = {JC_RESIZING, REQUEUED, REVOKED};
    uint64_t state = rec->number[JC_FIELD_STATE].value;

    for (size_t i = 0; i < sizeof(shown) / sizeof(*shown); i++) {
        if (rec->state_flags & shown[i]) {
            state = shown[i];
            break;
        }
    }
    reply_number(ctx, state);
}

static void reply_limit(RedisModuleCtx *ctx, const struct jc_record *rec)
{
    switch (rec->limit_kind) {
    case JC_LIMIT_MINUTES:
        reply_number(ctx, rec->time_limit);
        break;
    case JC_LIMIT_UNLIMITED:
        RedisModule_ReplyWithStringBuffer(ctx, "I", 1);
        break;
    case JC_LIMIT_PARTITION:
        RedisModule_ReplyWithStringBuffer(ctx, "P", 1);
        break;
    default:
        RedisModule_ReplyWithStringBuffer(ctx, "", 0);
    }
}

static bool find_gres(void *ctx, struct jc_slice key, struct mp_reader value)
{
    struct jc_slice *out = ctx;
    struct mp_value v;

    if (key.n != sizeof(JC_REQ_GRES) - 1 || memcmp(key.p, JC_REQ_GRES, key.n))
        return true;
    if (mp_read(&value, &v) && v.type == MP_STR)
        *out = (struct jc_slice){(const char *)v.p, v.n};
    return false;
}

/* An upstream client ends with abort() or a segmentation fault when a number, a
 * time or the limit is nil: an unknown one is 0, the limit empty. */
void jc_upstream_reply(RedisModuleCtx *ctx, const struct jc_record *rec,
                       bool iso_times)
{
    const struct jc_number *n = rec->number;
    const struct jc_slice *s = rec->string;
    struct jc_slice name = s[JC_FIELD_NAME], gres = {NULL, 0};
    uint64_t start = n[JC_FIELD_START].value, end = n[JC_FIELD_END].value;

    if (!name.n)
        name = (struct jc_slice){"allocation", 10};
    jc_extra_each(rec->extra, find_gres, &gres);
    RedisModule_ReplyWithArray(ctx, JC_UPSTREAM_FIELDS);
    reply_number(ctx, 0);
    reply_number(ctx, iso_times);
    reply_number(ctx, n[JC_FIELD_JOB_ID].value);
    reply_string(ctx, s[JC_FIELD_PARTITION]);
    reply_time(ctx, start, iso_times);
    reply_time(ctx, end, iso_times);
    reply_number(ctx, start && end > start ? end - start : 0);
    reply_number(ctx, n[JC_FIELD_UID].value);
    reply_string(ctx, s[JC_FIELD_USER]);
    reply_number(ctx, n[JC_FIELD_GID].value);
    reply_string(ctx, s[JC_FIELD_GROUP]);
    reply_number(ctx, n[JC_FIELD_NODE_COUNT].value);
    reply_number(ctx, n[JC_FIELD_CPU_COUNT].value);
    reply_string(ctx, s[JC_FIELD_NODES]);
    reply_string(ctx, name);
    reply_state(ctx, rec);
    reply_limit(ctx, rec);
    reply_string(ctx, s[JC_FIELD_WORK_DIR]);
    reply_string(ctx, s[JC_FIELD_RESERVATION]);
    reply_string(ctx, gres);
    reply_string(ctx, s[JC_FIELD_ACCOUNT]);
    reply_string(ctx, s[JC_FIELD_QOS]);
    reply_string(ctx, s[JC_FIELD_WCKEY]);
    reply_string(ctx, s[JC_FIELD_CLUSTER]);
    reply_time(ctx, n[JC_FIELD_SUBMIT].value, iso_times);
    reply_time(ctx, n[JC_FIELD_ELIGIBLE].value, iso_times);
    reply_status(ctx, n[JC_FIELD_DERIVED_EXIT_CODE]);
    reply_status(ctx, n[JC_FIELD_EXIT_CODE]);
}

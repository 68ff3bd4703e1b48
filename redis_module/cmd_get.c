/* SPDX-License-Identifier: MIT */
/* SLURMJC.GET prefix jobid: for people, field by field. */
#include "commands.h"
#include "queries.h"
#include "record_buffer.h"
#include "reply.h"
#include "task.h"

#include <stdio.h>

struct getting {
    struct jc_open_query *q; /* in no table */
    struct jc_buffer raw;
    uint64_t rows;
    bool full;
};

#define REPLY_BYTES 16777216 /* for people, so it is not cut into pages */

static bool get_step(RedisModuleCtx *ctx, void *data)
{
    struct getting *g = data;
    const struct jc_segment *s;
    struct jc_place place;
    RedisModuleKey *key;
    struct jc_record rec;
    uint64_t ttl;
    enum jc_step step = jc_query_next(
        ctx, g->q, g->q->scan.work + JC_STEP_WORK, &s, &place, &key);

    if (step == JC_STEP_ROW) {
        jc_segment_get(s, place, &rec, &ttl);
        jc_buffer_add_record(&g->raw, &rec);
        g->rows++;
        g->full = g->raw.n > REPLY_BYTES;
    }
    if (key)
        RedisModule_CloseKey(key);
    return step == JC_STEP_END || g->full;
}

/* ---- one value of extra, whatever it is ---- */

static void reply_value(RedisModuleCtx *ctx, struct mp_reader *r)
{
    struct mp_value v;
    double d;
    float f;
    uint64_t bits;

    if (!mp_read(r, &v)) {
        RedisModule_ReplyWithNull(ctx);
        return;
    }
    switch (v.type) {
    case MP_UINT: case MP_BOOL:
        if (v.u > INT64_MAX) { /* RESP's integers are signed */
            char text[24];
            int n = snprintf(text, sizeof(text), "%llu",
                             (unsigned long long)v.u);

            RedisModule_ReplyWithStringBuffer(ctx, text, (size_t)n);
            break;
        }
        RedisModule_ReplyWithLongLong(ctx, (long long)v.u);
        break;
    case MP_INT:
        RedisModule_ReplyWithLongLong(ctx, v.i);
        break;
    case MP_FLOAT:
        bits = mp_big_endian(v.p, v.n);
        if (v.n == 4) {
            uint32_t half = (uint32_t)bits;

            memcpy(&f, &half, sizeof(f));
            d = f;
        } else {
            memcpy(&d, &bits, sizeof(d));
        }
        RedisModule_ReplyWithDouble(ctx, d);
        break;
    case MP_STR: case MP_BIN: case MP_EXT:
        RedisModule_ReplyWithStringBuffer(ctx, (const char *)v.p, v.n);
        break;
    case MP_ARRAY: case MP_MAP: /* decode saw that they are not deep */
        v.n *= v.type == MP_MAP ? 2 : 1;
        RedisModule_ReplyWithArray(ctx, v.n);
        while (v.n-- > 0)
            reply_value(ctx, r);
        break;
    default:
        RedisModule_ReplyWithNull(ctx);
    }
}

struct replying {
    RedisModuleCtx *ctx;
    long pairs;
};

static void reply_name(struct replying *rp, const char *name, size_t n)
{
    RedisModule_ReplyWithStringBuffer(rp->ctx, name, n);
    rp->pairs++;
}

static bool reply_extra(void *ctx, struct jc_slice key, struct mp_reader value)
{
    struct replying *rp = ctx;

    reply_name(rp, key.p, key.n);
    reply_value(rp->ctx, &value);
    return true;
}

/* The record's bytes hold the values as they are to be shown. */
static void reply_record(RedisModuleCtx *ctx, const uint8_t *p, size_t n,
                         const struct jc_record *rec)
{
    struct replying rp = {.ctx = ctx};
    struct mp_reader r;
    struct mp_value head;

    mp_reader_init(&r, p, n);
    mp_read(&r, &head);
    RedisModule_ReplyWithMap(ctx, REDISMODULE_POSTPONED_LEN);
    for (unsigned at = 0; at < JC_FIELD_EXTRA; at++) {
        if (*r.pos == 0xc0) { /* nil */
            mp_skip(&r);
            continue;
        }
        reply_name(&rp, jc_fields[at].name, strlen(jc_fields[at].name));
        reply_value(ctx, &r);
    }
    jc_extra_each(rec->extra, reply_extra, &rp);
    RedisModule_ReplySetMapLength(ctx, rp.pairs);
}

static void get_reply(RedisModuleCtx *ctx, void *data, bool cut)
{
    const struct getting *g = data;
    struct jc_record rec;
    struct mp_reader r;

    if (cut) {
        jc_reply_error(ctx, "LIMIT too many segments for MULTI or a script, "
                       "send SLURMJC.GET outside");
        return;
    }
    if (g->full) {
        jc_reply_error(ctx, "LIMIT more than 16 MiB of runs of one job, use "
                       "SLURMJC.MATCH and SLURMJC.FETCH");
        return;
    }
    mp_reader_init(&r, g->raw.p, g->raw.n);
    RedisModule_ReplyWithArray(ctx, (long)g->rows);
    for (uint64_t i = 0; i < g->rows; i++) {
        const uint8_t *start = r.pos;

        mp_skip(&r);
        jc_record_decode(&rec, start, (size_t)(r.pos - start));
        reply_record(ctx, start, (size_t)(r.pos - start), &rec);
    }
}

static void get_free(void *data)
{
    struct getting *g = data;

    jc_query_release(g->q);
    jc_buffer_free(&g->raw);
    RedisModule_Free(g);
}

static const struct jc_task_kind get_task = {get_step, get_reply, get_free,
                                             NULL};

int jc_get_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    struct jc_criteria *c;
    struct getting *g;
    uint64_t id;

    if (argc != 3)
        return RedisModule_WrongArity(ctx);
    if (!jc_parse_number(jc_arg(argv[2]), UINT32_MAX, &id) || !id)
        return RedisModule_ReplyWithError(ctx, "ERR jobid must be an integer "
                                          "from 1 to 4294967295");
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    g = RedisModule_Calloc(1, sizeof(*g));
    g->q = jc_query_new(RedisModule_GetSelectedDb(ctx), jc_arg(argv[1]));
    c = &g->q->scan.criteria;
    c->has_job = true; /* by the index ... */
    jc_ranges_add(&c->jobs, id, id);
    jc_ranges_add(&c->numbers[JC_FIELD_JOB_ID], id, id); /* ... but no tasks */
    jc_scan_start(&g->q->scan);
    return jc_task_run(ctx, &get_task, g);
}

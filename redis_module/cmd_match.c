/* SPDX-License-Identifier: MIT */
/* SLURMJC.MATCH prefix id [criterion value ...] */
#include "commands.h"
#include "queries.h"
#include "task.h"
#include "upstream.h"

struct matching {
    struct jc_open_query *q;
    bool found;
};

static bool match_step(RedisModuleCtx *ctx, void *data)
{
    struct matching *m = data;
    const struct jc_segment *s;
    struct jc_place place;
    RedisModuleKey *key;
    enum jc_step step = jc_query_next(
        ctx, m->q, m->q->scan.work + JC_STEP_WORK, &s, &place, &key);

    if (step == JC_STEP_PAUSE)
        return false;
    m->found = step == JC_STEP_ROW;
    if (m->found)
        jc_scan_unread(&m->q->scan);
    if (key)
        RedisModule_CloseKey(key);
    return true;
}

static void match_reply(RedisModuleCtx *ctx, void *data, bool cut)
{
    struct matching *m = data;
    struct jc_slice key, id;
    RedisModuleString *name;

    if (!m->found && !cut) {
        jc_query_close(m->q);
        RedisModule_ReplyWithNull(ctx);
        return;
    }
    /* cut: rows may yet come, FETCH goes on looking */
    if (!m->q->key) { /* while it was looked for */
        RedisModule_ReplyWithError(ctx, "NOQUERY the query was replaced by "
                                   "another of its name, or forgotten for "
                                   "want of memory");
        return;
    }
    key = jc_arg(m->q->key);
    id = (struct jc_slice){key.p + key.n - m->q->id_n, m->q->id_n};
    name = jc_key_name(ctx, m->q->prefix, "mat", id);
    RedisModule_ReplyWithString(ctx, name);
    RedisModule_FreeString(ctx, name);
}

static void match_free(void *data)
{
    struct matching *m = data;

    jc_query_rest(m->q); /* here, as nobody replies to a client that left */
    RedisModule_Free(m);
}

static const struct jc_task_kind match_task = {match_step, match_reply,
                                               match_free,
                                               NULL};

int jc_match_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    struct jc_open_query *q;
    struct matching *m;
    bool ok;

    if (argc < 3)
        return RedisModule_WrongArity(ctx);
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    q = jc_query_new(RedisModule_GetSelectedDb(ctx), jc_arg(argv[1]));
    if (argc > 3)
        ok = jc_query_criteria(ctx, &q->scan.criteria, argv + 3, argc - 3);
    else
        ok = jc_upstream_criteria(ctx, q->prefix, jc_arg(argv[2]),
                                  &q->scan.criteria, &q->iso_times);
    if (!ok) {
        jc_query_release(q);
        return REDISMODULE_OK;
    }
    jc_scan_start(&q->scan);
    jc_query_open(q, jc_arg(argv[2]));
    q->busy = true;
    m = RedisModule_Calloc(1, sizeof(*m));
    m->q = q;
    return jc_task_run(ctx, &match_task, m);
}

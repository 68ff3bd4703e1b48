/* SPDX-License-Identifier: MIT */
/* SLURMJC.AGG prefix BY f [f] [criterion value ...] */
#include "commands.h"
#include "engine/agg.h"
#include "queries.h"
#include "reply.h"
#include "task.h"

struct aggregating {
    struct jc_open_query *q; /* in no table */
    struct jc_agg agg;
    struct jc_agg_sort sort;
    enum { SCAN, SORT, NO_MEMORY, READY } phase;
    uint64_t groups;  /* to be told ... */
    uint64_t replied; /* ... and told */
};

#define SORT_STEPS 4096  /* comparisons that a step makes */
#define REPLY_GROUPS 256 /* groups that a step tells */

/* True when every block is counted. */
static bool scan_step(RedisModuleCtx *ctx, void *data)
{
    struct aggregating *a = data;
    uint64_t work_max = a->q->scan.work + JC_STEP_WORK;
    enum jc_step step;

    do {
        const struct jc_segment *s;
        const struct jc_block *b;
        RedisModuleKey *key;

        step = jc_query_next_block(ctx, a->q, work_max, &s, &b, &key);
        if (step == JC_STEP_ROW) {
            jc_agg_block(&a->agg, s, b, a->q->scan.match);
            a->q->scan.work += 8 * (uint64_t)b->rows;
        }
        if (key)
            RedisModule_CloseKey(key);
    } while (step == JC_STEP_ROW && !a->agg.full);
    return step == JC_STEP_END || a->agg.full;
}

static bool agg_step(RedisModuleCtx *ctx, void *data)
{
    struct aggregating *a = data;

    if (a->phase == SCAN) {
        if (!scan_step(ctx, a))
            return false;
        a->groups = a->agg.names.count;
        if (a->groups > a->q->scan.criteria.limit)
            a->groups = a->q->scan.criteria.limit;
        a->phase = jc_agg_sort_start(&a->agg, &a->sort) ? SORT : NO_MEMORY;
    }
    if (a->phase == SORT && jc_agg_sort_step(&a->agg, &a->sort, SORT_STEPS))
        a->phase = READY;
    return a->phase != SORT || a->agg.full;
}

static void reply_sum(RedisModuleCtx *ctx, unsigned __int128 v)
{
    RedisModule_ReplyWithLongLong(
        ctx, v > INT64_MAX ? INT64_MAX : (long long)v);
}

static void reply_group(RedisModuleCtx *ctx, const struct jc_agg *a,
                        uint32_t id)
{
    const struct jc_agg_group *g = &a->group[id];
    unsigned keys = a->key[1].by ? 2 : 1;

    RedisModule_ReplyWithArray(ctx, keys + 5);
    for (unsigned i = 0; i < keys; i++) {
        struct jc_slice name = jc_agg_name(a, id, i);

        if (name.p)
            RedisModule_ReplyWithStringBuffer(ctx, name.p, name.n);
        else
            RedisModule_ReplyWithNull(ctx);
    }
    reply_sum(ctx, g->jobs);
    reply_sum(ctx, g->node_seconds);
    reply_sum(ctx, g->cpu_seconds);
    reply_sum(ctx, g->wait_seconds);
    reply_sum(ctx, g->run_seconds);
}

static void agg_reply(RedisModuleCtx *ctx, void *data, bool cut)
{
    const struct aggregating *a = data;
    if (cut || a->agg.full) {
        jc_reply_error(ctx, "LIMIT %s", cut
                           ? "too many jobs for MULTI or a script, send "
                             "SLURMJC.AGG outside"
                           : "more than 262144 groups, narrow the criteria");
        return;
    }
    if (a->phase == NO_MEMORY) {
        jc_reply_error(ctx, "ERR no memory to sort the groups");
        return;
    }
    RedisModule_ReplyWithArray(ctx, (long)a->groups);
}

/* Tells some of the groups. */
static bool agg_more(RedisModuleCtx *ctx, void *data)
{
    struct aggregating *a = data;

    if (a->agg.full || a->phase != READY)
        return true;
    for (unsigned i = 0; i < REPLY_GROUPS && a->replied < a->groups; i++)
        reply_group(ctx, &a->agg, a->sort.id[a->replied++]);
    return a->replied == a->groups;
}

static void agg_free(void *data)
{
    struct aggregating *a = data;

    jc_query_release(a->q);
    jc_agg_sort_free(&a->sort);
    jc_agg_free(&a->agg);
    RedisModule_Free(a);
}

static const struct jc_task_kind agg_task = {agg_step, agg_reply, agg_free,
                                             agg_more};

/* Takes BY f [f]; the next argument, or 0 when it has replied. */
static int parse_keys(RedisModuleCtx *ctx, struct jc_agg *agg,
                      RedisModuleString **argv, int argc)
{
    int i = 3, n = 0;

    for (; i < argc && n < 2; i++) {
        const struct jc_agg_key *k = jc_agg_key_of(jc_arg(argv[i]));

        /* 'BY user account alice' has one key: criteria come in pairs */
        if (!k || (n == 1 && (argc - i) % 2 == 0))
            break;
        agg->key[n++] = *k;
    }
    if (jc_arg_is(argv[2], "BY") && n)
        return i;
    jc_reply_error(ctx, "ERR syntax: SLURMJC.AGG prefix BY f [f] [criterion "
                   "value ...] with f one of user account partition state qos "
                   "name day hour");
    return 0;
}

int jc_agg_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    struct aggregating *a;
    int next;

    if (argc < 4)
        return RedisModule_WrongArity(ctx);
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    a = RedisModule_Calloc(1, sizeof(*a));
    a->q = jc_query_new(RedisModule_GetSelectedDb(ctx), jc_arg(argv[1]));
    next = parse_keys(ctx, &a->agg, argv, argc);
    if (!next || !jc_query_criteria(ctx, &a->q->scan.criteria, argv + next,
                                    argc - next)) {
        agg_free(a);
        return REDISMODULE_OK;
    }
    jc_scan_start(&a->q->scan);
    return jc_task_run(ctx, &agg_task, a);
}

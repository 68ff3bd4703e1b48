/* SPDX-License-Identifier: MIT */
#include "task.h"

#include <time.h>

#define SLICE_US 2500        /* of work, then others have their turn */
#define UNBLOCKABLE_US 100000 /* in MULTI and scripts */

struct task {
    const struct jc_task_kind *kind;
    void *data;
    RedisModuleBlockedClient *client;
};

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Steps until done (true) or until so many microseconds have passed. */
static bool run_for(RedisModuleCtx *ctx, const struct jc_task_kind *kind,
                    void *data, int64_t us)
{
    int64_t until = now_us() + us;

    do {
        if (kind->step(ctx, data))
            return true;
    } while (now_us() < until);
    return false;
}

static int reply_unblocked(RedisModuleCtx *ctx, RedisModuleString **argv,
                           int argc)
{
    struct task *t = RedisModule_GetBlockedClientPrivateData(ctx);

    (void)argv;
    (void)argc;
    t->kind->reply(ctx, t->data, false);
    return REDISMODULE_OK;
}

static void free_task(RedisModuleCtx *ctx, void *data)
{
    struct task *t = data;

    (void)ctx;
    t->kind->free(t->data);
    RedisModule_Free(t);
}

static void slice(RedisModuleCtx *ctx, void *data)
{
    struct task *t = data;

    if (run_for(ctx, t->kind, t->data, SLICE_US))
        RedisModule_UnblockClient(t->client, t);
    else
        RedisModule_CreateTimer(ctx, 0, slice, t);
}

int jc_task_run(RedisModuleCtx *ctx, const struct jc_task_kind *kind,
                void *data)
{
    int flags = RedisModule_GetContextFlags(ctx);
    bool blockable = !(flags & (REDISMODULE_CTX_FLAGS_MULTI |
                                REDISMODULE_CTX_FLAGS_LUA |
                                REDISMODULE_CTX_FLAGS_DENY_BLOCKING));
    bool done = run_for(ctx, kind, data, blockable ? SLICE_US
                                                   : UNBLOCKABLE_US);
    struct task *t;

    if (done || !blockable) {
        kind->reply(ctx, data, !done);
        kind->free(data);
        return REDISMODULE_OK;
    }
    t = RedisModule_Calloc(1, sizeof(*t));
    t->kind = kind;
    t->data = data;
    t->client = RedisModule_BlockClient(ctx, reply_unblocked, NULL, free_task,
                                        0);
    RedisModule_CreateTimer(ctx, 0, slice, t);
    return REDISMODULE_OK;
}

/* SPDX-License-Identifier: MIT */
#include "task.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define SLICE_US 1000        /* of work, then others have their turn */
#define UNBLOCKABLE_US 100000 /* in MULTI and scripts */

struct task {
    const struct jc_task_kind *kind;
    void *data;
    RedisModuleBlockedClient *client;
    RedisModuleCtx *replies; /* elements go there before the reply's head */
    int db;
    struct task *next;
};

/* Tasks that wait for their next slice, in turn. */
static struct task *first, **end = &first;

/*
 * A timer that is made anew by its own callback lets a millisecond pass. One
 * made by a file event fires in the same turn of the event loop, so there is a
 * descriptor that is always readable, listened to while tasks wait. The slice
 * itself has to run in a timer: Redis sends on only there what a look at an
 * expired key deletes.
 */
static int bell = -1;
static RedisModuleCtx *bell_ctx;
static bool armed; /* the timer is set */

int64_t jc_now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

typedef bool stepper(RedisModuleCtx *ctx, void *data);

/* Steps until done (true) or until that time. */
static bool run_until(RedisModuleCtx *ctx, stepper *step, void *data,
                      int64_t until)
{
    do {
        if (step(ctx, data))
            return true;
    } while (jc_now_us() < until);
    return false;
}

/* A slice of a task whose client waits. */
static bool run_slice(RedisModuleCtx *ctx, struct task *t)
{
    int64_t until = jc_now_us() + SLICE_US;

    if (!t->replies) {
        if (!run_until(ctx, t->kind->step, t->data, until))
            return false;
        if (!t->kind->more)
            return true;
        t->replies = RedisModule_GetThreadSafeContext(t->client);
    }
    if (!run_until(t->replies, t->kind->more, t->data, until))
        return false;
    RedisModule_FreeThreadSafeContext(t->replies);
    return true;
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

static void enqueue(struct task *t)
{
    t->next = NULL;
    *end = t;
    end = &t->next;
}

static void slice(RedisModuleCtx *ctx, void *data)
{
    struct task *t = first;

    (void)data;
    armed = false;
    first = t->next;
    if (!first)
        end = &first;
    RedisModule_SelectDb(ctx, t->db);
    if (run_slice(ctx, t))
        RedisModule_UnblockClient(t->client, t);
    else
        enqueue(t);
    if (!first)
        RedisModule_EventLoopDel(bell, REDISMODULE_EVENTLOOP_READABLE);
}

static void on_bell(int fd, void *user_data, int mask)
{
    (void)fd;
    (void)user_data;
    (void)mask;
    if (armed)
        return;
    armed = true;
    RedisModule_CreateTimer(bell_ctx, 0, slice, NULL);
}

/* False when the server can't take another event; errno says why. */
static bool ring(RedisModuleCtx *ctx)
{
    if (!bell_ctx)
        bell_ctx = RedisModule_GetDetachedThreadSafeContext(ctx);
    if (bell < 0)
        bell = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    return bell >= 0 &&
           RedisModule_EventLoopAdd(bell, REDISMODULE_EVENTLOOP_READABLE,
                                    on_bell, NULL) == REDISMODULE_OK;
}

int jc_task_run(RedisModuleCtx *ctx, const struct jc_task_kind *kind,
                void *data)
{
    int flags = RedisModule_GetContextFlags(ctx);
    bool blockable = !(flags & (REDISMODULE_CTX_FLAGS_MULTI |
                                REDISMODULE_CTX_FLAGS_LUA |
                                REDISMODULE_CTX_FLAGS_DENY_BLOCKING));
    int64_t until = jc_now_us() + (blockable ? SLICE_US : UNBLOCKABLE_US);
    bool done = run_until(ctx, kind->step, data, until);
    struct task *t;

    if (!done && blockable && !first && !ring(ctx)) {
        RedisModule_Log(ctx, "warning", "slurm_jobcomp: no file descriptor to "
                        "go on with: %s", strerror(errno));
        blockable = false;
    }
    if (done || !blockable) {
        kind->reply(ctx, data, !done);
        while (done && kind->more && !kind->more(ctx, data))
            ;
        kind->free(data);
        return REDISMODULE_OK;
    }
    t = RedisModule_Calloc(1, sizeof(*t));
    t->kind = kind;
    t->data = data;
    t->db = RedisModule_GetSelectedDb(ctx);
    t->client = RedisModule_BlockClient(ctx, reply_unblocked, NULL, free_task,
                                        0);
    enqueue(t);
    return REDISMODULE_OK;
}

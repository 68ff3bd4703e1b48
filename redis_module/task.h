/* SPDX-License-Identifier: MIT */
/*
 * Long work in slices: the first slice runs inside the command; if that was not
 * enough the client is blocked and the rest runs from the event loop, a slice a
 * turn, so that Redis serves everybody else in between. Where blocking is not
 * possible (MULTI, scripts) the work goes on in one piece up to a bound.
 */
#ifndef SLURMJCD_TASK_H
#define SLURMJCD_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "redismodule.h"

/* Units of jc_scan.work that a step may do before it looks at the clock. */
#define JC_STEP_WORK 65536

struct jc_task_kind {
    /* Does a little; true when there is nothing left to do. */
    bool (*step)(RedisModuleCtx *ctx, void *data);
    /* Replies. cut: the work was stopped at the bound for MULTI and scripts. */
    void (*reply)(RedisModuleCtx *ctx, void *data, bool cut);
    void (*free)(void *data);
    /* For a reply with many elements, or NULL: reply() tells how many there
     * are, and this sends some of them; true when none are left. */
    bool (*more)(RedisModuleCtx *ctx, void *data);
};

/* Runs the task and replies, now or later; frees data when done. */
int jc_task_run(RedisModuleCtx *ctx, const struct jc_task_kind *kind,
                void *data);

/* A clock that only goes on, microseconds. */
int64_t jc_now_us(void);

#endif

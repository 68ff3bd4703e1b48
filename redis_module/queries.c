/* SPDX-License-Identifier: MIT */
#include "queries.h"

#include "reply.h"

/* Past these the queries longest unused are forgotten, but for the last. */
#define OPEN_MAX 10000
#define BYTES_MAX 67108864

static RedisModuleDict *open_queries;
static int64_t lifetime_ms;
static size_t bytes;
static struct jc_open_query *oldest, *newest;

void jc_queries_init(uint64_t lifetime)
{
    lifetime_ms = (int64_t)lifetime * 1000;
    open_queries = RedisModule_CreateDict(NULL);
}

/* ---- life ---- */

struct jc_open_query *jc_query_new(int db, struct jc_slice prefix)
{
    struct jc_open_query *q = jc_host.alloc(sizeof(*q));
    char *copy = jc_host.alloc((size_t)prefix.n + 1);

    memset(q, 0, sizeof(*q));
    memcpy(copy, prefix.p, prefix.n);
    q->prefix = (struct jc_slice){copy, prefix.n};
    q->db = db;
    q->holders = 1;
    jc_scan_init(&q->scan);
    return q;
}

void jc_query_release(struct jc_open_query *q)
{
    if (--q->holders)
        return;
    jc_scan_free(&q->scan);
    jc_host.free((char *)q->prefix.p);
    jc_host.free(q);
}

/* ---- the table ---- */

static RedisModuleString *table_key(int db, struct jc_slice prefix,
                                    struct jc_slice id)
{
    RedisModuleString *key =
        RedisModule_CreateStringPrintf(NULL, "%d:%u:", db, prefix.n);

    RedisModule_StringAppendBuffer(NULL, key, prefix.p, prefix.n);
    RedisModule_StringAppendBuffer(NULL, key, id.p, id.n);
    return key;
}

static void unlink_age(struct jc_open_query *q)
{
    *(q->older ? &q->older->newer : &oldest) = q->newer;
    *(q->newer ? &q->newer->older : &newest) = q->older;
    q->older = q->newer = NULL;
}

static void link_newest(struct jc_open_query *q)
{
    q->used_ms = RedisModule_Milliseconds();
    q->older = newest;
    *(newest ? &newest->newer : &oldest) = q;
    newest = q;
}

void jc_query_close(struct jc_open_query *q)
{
    if (!q->key)
        return;
    RedisModule_DictDel(open_queries, q->key, NULL);
    RedisModule_FreeString(NULL, q->key);
    q->key = NULL;
    bytes -= q->bytes;
    unlink_age(q);
    jc_query_release(q);
}

/* Forgets what nobody uses any more. */
static void tidy(void)
{
    int64_t before = RedisModule_Milliseconds() - lifetime_ms;

    while (oldest && (oldest->used_ms < before ||
                      RedisModule_DictSize(open_queries) > OPEN_MAX ||
                      (bytes > BYTES_MAX && oldest != newest)))
        jc_query_close(oldest);
}

static void count(struct jc_open_query *q)
{
    bytes -= q->bytes;
    q->bytes = sizeof(*q) + jc_criteria_bytes(&q->scan.criteria) +
               jc_filter_bytes(&q->scan.filter);
    bytes += q->bytes;
}

void jc_query_rest(struct jc_open_query *q)
{
    q->busy = false;
    if (q->key) {
        count(q);
        tidy();
    }
    jc_query_release(q);
}

struct jc_open_query *jc_query_find(int db, struct jc_slice prefix,
                                    struct jc_slice id)
{
    RedisModuleString *key = table_key(db, prefix, id);
    struct jc_open_query *q;

    tidy();
    q = RedisModule_DictGet(open_queries, key, NULL);
    RedisModule_FreeString(NULL, key);
    if (q) {
        unlink_age(q);
        link_newest(q);
    }
    return q;
}

void jc_query_open(struct jc_open_query *q, struct jc_slice id)
{
    struct jc_open_query *old = jc_query_find(q->db, q->prefix, id);

    if (old)
        jc_query_close(old);
    q->key = table_key(q->db, q->prefix, id);
    q->id_n = id.n;
    RedisModule_DictSet(open_queries, q->key, q);
    q->holders++;
    link_newest(q);
    count(q);
    tidy();
}

uint64_t jc_query_count(int db, struct jc_slice prefix)
{
    uint64_t n = 0;

    tidy();
    for (const struct jc_open_query *q = oldest; q; q = q->newer)
        n += q->db == db && q->prefix.n == prefix.n &&
             !memcmp(q->prefix.p, prefix.p, prefix.n);
    return n;
}

/* ---- criteria and rows ---- */

bool jc_query_criteria(RedisModuleCtx *ctx, struct jc_criteria *c,
                       RedisModuleString **argv, int argc)
{
    bool ok = true;

    if (argc % 2) {
        RedisModule_ReplyWithError(ctx, "ERR criteria come in pairs of name "
                                   "and value");
        return false;
    }
    for (int i = 0; i < argc && ok; i += 2)
        ok = jc_criteria_add(c, jc_arg(argv[i]), jc_arg(argv[i + 1]));
    if (ok && jc_criteria_done(c))
        return true;
    jc_reply_error(ctx, "ERR %s", c->why);
    return false;
}

/* Gets the scan into the next segment that exists. END: there is none. */
static enum jc_step enter_next(RedisModuleCtx *ctx, struct jc_open_query *q,
                               uint64_t work_max, const struct jc_segment **s,
                               RedisModuleKey **key)
{
    for (;;) {
        int64_t day = jc_store_next_day(q->db, q->prefix, q->scan.day);

        *key = NULL;
        if (day == JC_NO_DAY)
            return JC_STEP_END;
        if (q->scan.work >= work_max)
            return JC_STEP_PAUSE;
        if (day != q->scan.day) {
            jc_scan_leave(&q->scan);
            q->scan.day = day;
        }
        *s = jc_open_segment(ctx, q->prefix, day, key);
        q->scan.work += 64; /* opening a key */
        if (*s && jc_scan_enter(&q->scan, *s))
            return JC_STEP_ROW;
        if (*key)
            RedisModule_CloseKey(*key);
        jc_scan_leave(&q->scan);
    }
}

/* The next row, or block when place is NULL. */
static enum jc_step next(RedisModuleCtx *ctx, struct jc_open_query *q,
                         uint64_t work_max, const struct jc_segment **s,
                         struct jc_place *place, const struct jc_block **block,
                         RedisModuleKey **key)
{
    uint64_t now = (uint64_t)RedisModule_Milliseconds() / 1000;

    for (;;) {
        enum jc_step step = enter_next(ctx, q, work_max, s, key);

        if (step != JC_STEP_ROW)
            return step;
        step = place ? jc_scan_next(&q->scan, *s, now, work_max, place)
                     : jc_scan_next_block(&q->scan, *s, now, work_max, block);
        if (step == JC_STEP_ROW)
            return step;
        RedisModule_CloseKey(*key);
        *key = NULL;
        if (step == JC_STEP_PAUSE)
            return step;
        jc_scan_leave(&q->scan);
    }
}

enum jc_step jc_query_next(RedisModuleCtx *ctx, struct jc_open_query *q,
                           uint64_t work_max, const struct jc_segment **s,
                           struct jc_place *place, RedisModuleKey **key)
{
    *key = NULL;
    if (jc_scan_full(&q->scan))
        return JC_STEP_END;
    return next(ctx, q, work_max, s, place, NULL, key);
}

enum jc_step jc_query_next_block(RedisModuleCtx *ctx, struct jc_open_query *q,
                                 uint64_t work_max,
                                 const struct jc_segment **s,
                                 const struct jc_block **block,
                                 RedisModuleKey **key)
{
    return next(ctx, q, work_max, s, NULL, block, key);
}

/* SPDX-License-Identifier: MIT */
/* SLURMJC.FETCH prefix id max [RECORDS] [KEYS] | SLURMJC.FETCH prefix id CLOSE */
#include "commands.h"
#include "engine/rows.h"
#include "queries.h"
#include "record_buffer.h"
#include "reply.h"
#include "task.h"
#include "upstream.h"

#define REPLY_BYTES 262144 /* a reply is closed past this, as it is made in one
                              piece ... */
#define UPSTREAM_ROWS 500   /* ... but upstream's clients lose what is missing
                               of the 500 they ask for ... */
#define UPSTREAM_BYTES 67108864 /* ... so up to this they get them */
#define ROW_WORK 64 /* of jc_scan.work, beside what a row's bytes cost */
#define DENSE 16 /* matches among JC_ROWS_TILE rows that unpacking them pays for */

#define KEY_BYTES 16 /* of KEYS, a row: end, job id, bytes of its RESP2 form */

/* Kept for the next command: only one makes rows at a time. */
static struct jc_rows rows;
static struct jc_buffer spare;

struct fetching {
    struct jc_open_query *q;
    uint64_t max;
    bool records;          /* blobs instead of upstream's arrays */
    bool keys;             /* before the rows, what they are in order of */
    struct jc_buffer raw;  /* records, one behind the other */
    uint32_t *size;        /* of each */
    struct jc_buffer key;  /* KEY_BYTES of each, with keys */
    size_t n;
    size_t room;
    bool done;             /* the query has no more */
};

/* Are many of the rows wanted that follow the one at place? */
static bool is_dense(const struct jc_scan *q, const struct jc_segment *s,
                     struct jc_place place)
{
    uint32_t end = s->order[place.block]->rows, n = 0;

    if (end - place.row > JC_ROWS_TILE)
        end = place.row + JC_ROWS_TILE;
    for (uint32_t i = place.row; i < end; i++)
        n += q->match[i];
    return n >= DENSE;
}

static void put_little_endian(uint8_t *out, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        out[i] = (uint8_t)(v >> 8 * i);
}

/* Of the row that the scan has just passed; bytes 0: not known here. */
static void take_key(struct fetching *f, uint32_t bytes)
{
    const uint64_t *key = f->q->scan.key;
    uint8_t *out;

    jc_buffer_reserve(&f->key, KEY_BYTES);
    out = f->key.p + f->key.n;
    put_little_endian(out, key[0], 8);
    put_little_endian(out + 8, key[1], 4);
    put_little_endian(out + 12, bytes, 4);
    f->key.n += KEY_BYTES;
}

/* As RESP2 has it. */
static uint32_t bulk_bytes(uint32_t n)
{
    uint32_t digits = 1;

    for (uint32_t left = n; left >= 10; left /= 10)
        digits++;
    return 1 + digits + 2 + n + 2;
}

static void take(struct fetching *f, const struct jc_segment *s,
                 struct jc_place place)
{
    size_t before = f->raw.n;

    if (f->n == f->room) {
        f->room = f->room ? f->room * 2 : 64;
        f->size = jc_host.resize(f->size, f->room * sizeof(*f->size));
    }
    if (jc_rows_holds(&rows, s, place) || is_dense(&f->q->scan, s, place)) {
        jc_buffer_reserve(&f->raw, jc_rows_at(&rows, s, place));
        f->raw.n += jc_rows_write(&rows, place.row, f->raw.p + f->raw.n);
    } else {
        struct jc_record rec;
        uint64_t ttl;

        jc_rows_reset(&rows);
        jc_segment_get(s, place, &rec, &ttl);
        jc_buffer_add_record(&f->raw, &rec);
    }
    f->size[f->n] = (uint32_t)(f->raw.n - before);
    if (f->keys)
        take_key(f, f->records ? bulk_bytes(f->size[f->n]) : 0);
    f->n++;
}

static bool reply_full(const struct fetching *f)
{
    if (f->n == f->max)
        return true;
    if (f->records || f->n >= UPSTREAM_ROWS)
        return f->raw.n >= REPLY_BYTES;
    return f->raw.n >= UPSTREAM_BYTES;
}

static bool fetch_step(RedisModuleCtx *ctx, void *data)
{
    struct fetching *f = data;
    uint64_t now = (uint64_t)RedisModule_Milliseconds() / 1000;
    uint64_t work_max = f->q->scan.work + JC_STEP_WORK;
    const struct jc_segment *s;
    struct jc_place place;
    RedisModuleKey *key;
    enum jc_step step;
    bool paused = false;

    if (f->n == f->max)
        return true;
    jc_rows_reset(&rows);
    step = jc_query_next(ctx, f->q, work_max, &s, &place, &key);
    while (step == JC_STEP_ROW) {
        take(f, s, place);
        if (reply_full(f) || jc_scan_full(&f->q->scan))
            break;
        f->q->scan.work += ROW_WORK + f->size[f->n - 1] / 4;
        paused = f->q->scan.work >= work_max;
        if (paused)
            break;
        step = jc_scan_next(&f->q->scan, s, now, work_max, &place);
    }
    if (key) {
        RedisModule_CloseKey(key);
        if (step == JC_STEP_END) { /* of this segment, not of the query */
            jc_scan_leave(&f->q->scan);
            return false;
        }
    }
    f->done = step == JC_STEP_END;
    return !paused && step != JC_STEP_PAUSE;
}

static void reply_rows(RedisModuleCtx *ctx, const struct fetching *f)
{
    const char *p = (const char *)f->raw.p;
    struct jc_record rec;

    if (f->keys) {
        RedisModule_ReplyWithArray(ctx, 2);
        RedisModule_ReplyWithStringBuffer(
            ctx, f->n ? (const char *)f->key.p : "", f->key.n);
    }
    RedisModule_ReplyWithArray(ctx, (long)f->n);
    for (size_t i = 0; i < f->n; p += f->size[i++]) {
        if (f->records) {
            RedisModule_ReplyWithStringBuffer(ctx, p, f->size[i]);
            continue;
        }
        jc_record_decode(&rec, p, f->size[i]);
        jc_upstream_reply(ctx, &rec, f->q->iso_times);
    }
}

static void fetch_reply(RedisModuleCtx *ctx, void *data, bool cut)
{
    struct fetching *f = data;

    if (cut && !f->n) {
        RedisModule_ReplyWithError(ctx, "LIMIT no job found in the time a "
                                   "command has inside MULTI or a script, "
                                   "send SLURMJC.FETCH again or outside");
        return;
    }
    if (f->done && !f->n)
        jc_query_close(f->q);
    reply_rows(ctx, f);
}

static void fetch_free(void *data)
{
    struct fetching *f = data;

    jc_query_rest(f->q); /* here, as nobody replies to a client that left */
    if (!spare.p && f->raw.room <= 2 * REPLY_BYTES)
        spare = f->raw;
    else
        jc_buffer_free(&f->raw);
    jc_buffer_free(&f->key);
    if (f->size)
        jc_host.free(f->size);
    RedisModule_Free(f);
}

static const struct jc_task_kind fetch_task = {fetch_step, fetch_reply,
                                               fetch_free,
                                               NULL};

static int reply_no_query(RedisModuleCtx *ctx, RedisModuleString *id)
{
    struct jc_slice s = jc_arg(id);

    return jc_reply_error(ctx, "NOQUERY no query '%.*s' is open, send "
                          "SLURMJC.MATCH first", s.n > 64 ? 64 : (int)s.n,
                          s.p);
}

/* Nobody fetches from it any more; the command that is at it, if any, ends as
 * if nothing was. */
static int close_query(RedisModuleCtx *ctx, struct jc_open_query *q)
{
    jc_query_close(q);
    return RedisModule_ReplyWithEmptyArray(ctx);
}

/* Takes [RECORDS] [KEYS]; false when it is something else. */
static bool parse_options(RedisModuleString **argv, int argc, bool *records,
                          bool *keys)
{
    int i = 0;

    *records = i < argc && jc_arg_is(argv[i], "RECORDS");
    i += *records;
    *keys = i < argc && jc_arg_is(argv[i], "KEYS");
    i += *keys;
    return i == argc;
}

int jc_fetch_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    bool records, keys, close;
    struct jc_open_query *q;
    struct fetching *f;
    uint64_t max = 0;

    if (argc < 4 || argc > 6)
        return RedisModule_WrongArity(ctx);
    close = argc == 4 && jc_arg_is(argv[3], "CLOSE");
    if (!close && (!jc_parse_number(jc_arg(argv[3]), INT64_MAX, &max) || !max))
        return RedisModule_ReplyWithError(ctx, "ERR max must be an integer "
                                          "from 1");
    if (!parse_options(argv + 4, argc - 4, &records, &keys))
        return RedisModule_ReplyWithError(ctx, "ERR syntax: SLURMJC.FETCH "
                                          "prefix id max [RECORDS] [KEYS], or "
                                          "SLURMJC.FETCH prefix id CLOSE");
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    q = jc_query_find(RedisModule_GetSelectedDb(ctx), jc_arg(argv[1]),
                      jc_arg(argv[2]));
    if (!q)
        return reply_no_query(ctx, argv[2]);
    if (close)
        return close_query(ctx, q);
    if (q->busy)
        return RedisModule_ReplyWithError(ctx, "ERR the query is busy with "
                                          "another client's command");
    q->busy = true;
    q->holders++;
    f = RedisModule_Calloc(1, sizeof(*f));
    f->q = q;
    f->max = max;
    f->records = records;
    f->keys = keys;
    f->raw = spare;
    f->raw.n = 0;
    spare = (struct jc_buffer){0};
    return jc_task_run(ctx, &fetch_task, f);
}

/* SPDX-License-Identifier: MIT */
/* SLURMJC.PUT prefix [TTL s] [SPOOL id seq [LAST last [AT offsets]] [GAP]]
 *             [EVENTS keep ms] RECORDS r [r ...] */
#include "commands.h"
#include "engine/criteria.h"
#include "event_stream.h"
#include "put.h"
#include "reply.h"
#include "segment_type.h"

#include <string.h>

/* Records decoded at once, into memory that is kept; larger batches are decoded
 * a second time. */
#define DECODED_MAX 512

static struct jc_record *decoded;

struct put_args {
    struct jc_slice prefix;
    uint64_t ttl;
    RedisModuleString *spool; /* NULL: none */
    uint64_t seq, last;       /* what the watermark has passed after it */
    bool some;                /* LAST: of seq to last these are some */
    struct jc_slice offsets;  /* their numbers less seq; empty: 0, 1, ... */
    bool gap;
    bool events;
    uint64_t events_keep, events_ms;
    RedisModuleString **record;
    size_t records;
};

/* ---- arguments ---- */

static bool is_source_id(struct jc_slice s)
{
    if (!s.n || s.n > 64)
        return false;
    for (uint32_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') || (c && strchr("_.:-", c))))
            return false;
    }
    return true;
}

/* The next of "0,3,17": false at the end, or where it is none. */
static bool next_offset(struct jc_slice *rest, uint64_t *offset)
{
    const char *comma = rest->n ? memchr(rest->p, ',', rest->n) : NULL;
    uint32_t n = comma ? (uint32_t)(comma - rest->p) : rest->n;

    if (!jc_parse_number((struct jc_slice){rest->p, n}, INT64_MAX, offset))
        return false;
    n += comma ? 1 : 0;
    *rest = (struct jc_slice){rest->p + n, rest->n - n};
    return true;
}

/* Whether there is one for each record, each above the one before and the last
 * not above what LAST leaves. */
static bool offsets_fit(const struct put_args *a)
{
    struct jc_slice rest = a->offsets;
    uint64_t offset, least = 0;

    for (size_t i = 0; i < a->records; i++) {
        if (!next_offset(&rest, &offset) || offset < least ||
            offset > a->last - a->seq)
            return false;
        least = offset + 1;
    }
    return !rest.n && (!a->records || a->offsets.p[a->offsets.n - 1] != ',');
}

/* The words behind SPOOL: NULL, or what is wrong. */
static const char *parse_spool(struct put_args *a, RedisModuleString **argv,
                               int argc, int *at)
{
    int i = *at;

    a->spool = argv[++i];
    if (!is_source_id(jc_arg(a->spool)))
        return "ERR a spool's id must be 1 to 64 of [A-Za-z0-9_.:-]";
    if (!jc_parse_number(jc_arg(argv[++i]), INT64_MAX, &a->seq) || !a->seq)
        return "ERR a sequence number must be an integer from 1";
    if (i + 2 < argc && jc_arg_is(argv[i + 1], "LAST")) {
        a->some = true;
        if (!jc_parse_number(jc_arg(argv[i + 2]), INT64_MAX, &a->last))
            return "ERR LAST must be a sequence number";
        i += 2;
        if (i + 2 < argc && jc_arg_is(argv[i + 1], "AT")) {
            a->offsets = jc_arg(argv[i + 2]);
            i += 2;
        }
    }
    if (i + 1 < argc && jc_arg_is(argv[i + 1], "GAP")) {
        a->gap = true;
        i++;
    }
    *at = i;
    return NULL;
}

/* Numbers of the spool against the count of records; NULL, or what is wrong. */
static const char *check_numbers(struct put_args *a)
{
    if (!a->spool)
        return NULL;
    if (a->seq > INT64_MAX - a->records)
        return "ERR a sequence number must be an integer from 1";
    if (!a->some)
        a->last = a->seq + a->records - 1;
    else if (a->last < a->seq + a->records - 1)
        return "ERR LAST must leave a number for each record";
    else if (a->offsets.n && !offsets_fit(a))
        return "ERR AT must have an offset for each record, in rising order "
               "and up to LAST, such as 0,3,17";
    return NULL;
}

/* NULL, or what is wrong. */
static const char *parse_args(struct put_args *a, RedisModuleString **argv,
                              int argc)
{
    const char *why;
    int i = 2;

    *a = (struct put_args){.prefix = jc_arg(argv[1])};
    for (; i < argc && !jc_arg_is(argv[i], "RECORDS"); i++) {
        if (jc_arg_is(argv[i], "TTL") && i + 1 < argc && !a->ttl) {
            if (!jc_parse_number(jc_arg(argv[++i]), JC_TTL_MAX, &a->ttl) ||
                !a->ttl)
                return "ERR TTL must be seconds, 1 to 31536000000";
        } else if (jc_arg_is(argv[i], "SPOOL") && i + 2 < argc && !a->spool) {
            why = parse_spool(a, argv, argc, &i);
            if (why)
                return why;
        } else if (jc_arg_is(argv[i], "EVENTS") && i + 2 < argc &&
                   !a->events) {
            a->events = true;
            if (!jc_parse_number(jc_arg(argv[++i]), JC_EVENTS_MAX,
                                 &a->events_keep))
                return "ERR EVENTS keeps 1 to 1000000000 entries, 0 keeps all";
            if (!jc_parse_number(jc_arg(argv[++i]), INT64_MAX, &a->events_ms))
                return "ERR the time of EVENTS must be epoch milliseconds";
        } else {
            return "ERR syntax: SLURMJC.PUT prefix [TTL s] [SPOOL id seq "
                   "[LAST last [AT offsets]] [GAP]] [EVENTS keep ms] RECORDS "
                   "r [r ...]";
        }
    }
    if (i == argc)
        return "ERR RECORDS is missing";
    a->record = argv + i + 1;
    a->records = (size_t)(argc - i - 1);
    return check_numbers(a);
}

/* ---- watermarks ---- */

/* Opens the hash of watermarks; NULL when the key is of another type. */
static RedisModuleKey *open_spools(RedisModuleCtx *ctx, struct jc_slice prefix)
{
    RedisModuleString *name =
        jc_key_name(ctx, prefix, NULL, (struct jc_slice){"spools", 6});
    RedisModuleKey *key =
        RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    int type = RedisModule_KeyType(key);

    RedisModule_FreeString(ctx, name);
    if (type == REDISMODULE_KEYTYPE_HASH || type == REDISMODULE_KEYTYPE_EMPTY)
        return key;
    RedisModule_CloseKey(key);
    return NULL;
}

static bool watermark_of(RedisModuleKey *spools, RedisModuleString *id,
                         uint64_t *watermark)
{
    RedisModuleString *text = NULL;
    bool ok = true;

    *watermark = 0;
    if (RedisModule_KeyType(spools) == REDISMODULE_KEYTYPE_EMPTY)
        return true;
    RedisModule_HashGet(spools, REDISMODULE_HASH_NONE, id, &text, NULL);
    if (text) {
        ok = jc_parse_number(jc_arg(text), INT64_MAX, watermark);
        RedisModule_FreeString(NULL, text);
    }
    return ok;
}

static void set_watermark(RedisModuleKey *spools, RedisModuleString *id,
                          uint64_t watermark)
{
    RedisModuleString *text =
        RedisModule_CreateStringFromLongLong(NULL, (long long)watermark);

    RedisModule_HashSet(spools, REDISMODULE_HASH_NONE, id, text, NULL);
    RedisModule_FreeString(NULL, text);
}

/* ---- records ---- */

static const char *decode(struct jc_record *rec, RedisModuleString *arg)
{
    struct jc_slice s = jc_arg(arg);

    return jc_record_decode(rec, s.p, s.n);
}

/* Decodes every record and makes its segment ready; replies and returns false
 * if one can't be stored. Empty records stand for quarantined ones. */
static bool prepare(struct jc_putter *p, const struct put_args *a)
{
    for (size_t i = 0; i < a->records; i++) {
        struct jc_record *rec = &decoded[i % DECODED_MAX];
        const char *why;

        if (!jc_arg(a->record[i]).n) {
            rec->number[JC_FIELD_JOB_ID].value = 0;
            continue;
        }
        why = decode(rec, a->record[i]);
        if (why) {
            jc_reply_error(p->ctx, "BADRECORD %zu %s", i, why);
            return false;
        }
        why = jc_putter_prepare(p, rec);
        if (why) {
            RedisModule_ReplyWithError(p->ctx, why);
            return false;
        }
    }
    return true;
}

static void store(struct jc_putter *p, struct jc_events *ev,
                  const struct put_args *a)
{
    struct jc_slice spool = {0}, offsets = a->offsets;

    if (a->spool)
        spool = jc_arg(a->spool);
    for (size_t i = 0; i < a->records; i++) {
        struct jc_record *rec = &decoded[i % DECODED_MAX];
        uint64_t offset = i;
        enum jc_put stored;

        if (offsets.n)
            next_offset(&offsets, &offset);
        if (!jc_arg(a->record[i]).n)
            continue;
        if (a->records > DECODED_MAX && decode(rec, a->record[i]))
            continue; /* it was decoded before */
        stored = jc_putter_store(p, rec, a->ttl);
        if (ev->key && stored != JC_PUT_KNOWN)
            jc_events_add(ev, rec, spool, a->seq + offset,
                          stored == JC_PUT_REPLACED);
    }
}

/* ---- the command ---- */

/* Opens and checks the spool; false if it has replied. */
static bool check_spool(RedisModuleCtx *ctx, const struct put_args *a,
                        RedisModuleKey **spools, uint64_t *watermark)
{
    *spools = open_spools(ctx, a->prefix);
    if (!*spools) {
        RedisModule_ReplyWithError(ctx, "WRONGTYPE the key of the watermarks "
                                   "holds something else than a hash");
        return false;
    }
    if (!watermark_of(*spools, a->spool, watermark)) {
        RedisModule_ReplyWithError(ctx, "ERR the spool's watermark is not a "
                                   "number");
        return false;
    }
    if (a->seq > *watermark + 1 && !a->gap) {
        jc_reply_error(ctx, "OUTOFSEQ %llu",
                       (unsigned long long)*watermark + 1);
        return false;
    }
    return true;
}

static void put(RedisModuleCtx *ctx, const struct put_args *a,
                RedisModuleKey *spools, uint64_t watermark)
{
    struct jc_events ev = {0};
    struct jc_putter p;
    const char *why = NULL;

    if (a->events)
        why = jc_events_open(&ev, ctx, a->prefix, a->events_keep,
                             a->events_ms, a->records);
    if (why) {
        RedisModule_ReplyWithError(ctx, why);
        return;
    }
    if (!decoded)
        decoded = jc_host.alloc(DECODED_MAX * sizeof(*decoded));
    jc_putter_init(&p, ctx, a->prefix);
    if (prepare(&p, a)) {
        store(&p, &ev, a);
        if (spools && a->last > watermark)
            set_watermark(spools, a->spool, a->last);
        jc_putter_done(&p);
        /* also when all was known, or WAIT and WAITAOF would not wait */
        RedisModule_ReplicateVerbatim(ctx);
        RedisModule_ReplyWithLongLong(ctx, p.stored);
    } else {
        jc_putter_done(&p);
    }
    jc_events_close(&ev);
}

int jc_put_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    struct put_args a;
    RedisModuleKey *spools = NULL;
    uint64_t watermark = 0;
    const char *why;

    if (argc < 3)
        return RedisModule_WrongArity(ctx);
    why = parse_args(&a, argv, argc);
    if (why)
        return RedisModule_ReplyWithError(ctx, why);
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    if (!a.spool || check_spool(ctx, &a, &spools, &watermark))
        put(ctx, &a, spools, watermark);
    if (spools)
        RedisModule_CloseKey(spools);
    return REDISMODULE_OK;
}

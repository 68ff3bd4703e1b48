/* SPDX-License-Identifier: MIT */
/*
 * SLURMJC.TAKE prefix cursor count [CLUSTER name] [TTL s] [SINCE t] [INDEXES]
 *              [DRYRUN]
 *
 * A slice of the keyspace, of at most count keys and about two milliseconds: each
 * hash <prefix>:<jobid> in it becomes a record. SINCE is for hashes that never
 * expire, as TTL is. Replies the next cursor, how many were stored, known and left since they
 * ended too early, how many of upstream's index sets went (or, without INDEXES,
 * are there), and pairs of key and reason of the hashes that are no jobs.
 */
#include "commands.h"
#include "engine/criteria.h"
#include "hash_intake.h"
#include "put.h"
#include "reply.h"
#include "segment_type.h"
#include "task.h"

#include <string.h>

#define COUNT_MAX 10000
/* Jobs of many days cost ten times those of one, so a slice ends by the clock:
 * keys looked at before it is asked, and from when on no more are. */
#define PAGE_KEYS 8
#define SLICE_US 2000

/* Arguments of a command for replicas, held until it is sent. */
struct words {
    RedisModuleString **word;
    size_t n, room;
};

struct taking {
    RedisModuleCtx *ctx;
    RedisModuleString *name; /* the prefix */
    struct jc_slice prefix, cluster;
    uint64_t ttl, since;
    bool indexes, dry;
    struct jc_putter putter;
    struct words gone, records;
    uint64_t records_ttl;
    long long stored, known, early, sets;
    struct words refused; /* key, reason, key, reason, … */
};

/* ---- words ---- */

static void add_word(struct words *w, const char *p, size_t n)
{
    if (w->n == w->room) {
        w->room = w->room ? w->room * 2 : 64;
        w->word = RedisModule_Realloc(w->word, w->room * sizeof(*w->word));
    }
    w->word[w->n++] = RedisModule_CreateString(NULL, p, n);
}

static void drop_words(struct words *w)
{
    while (w->n)
        RedisModule_FreeString(NULL, w->word[--w->n]);
}

static void free_words(struct words *w)
{
    drop_words(w);
    RedisModule_Free(w->word);
}

/* ---- arguments ---- */

/* NULL, or what is wrong. */
static const char *parse_args(struct taking *t, RedisModuleString **argv,
                              int argc)
{
    t->prefix = jc_arg(t->name);
    for (int i = 4; i < argc; i++) {
        if (jc_arg_is(argv[i], "CLUSTER") && i + 1 < argc && !t->cluster.n) {
            t->cluster = jc_arg(argv[++i]);
            if (!t->cluster.n || memchr(t->cluster.p, 0, t->cluster.n))
                return "ERR CLUSTER must be the name of a cluster";
        } else if (jc_arg_is(argv[i], "TTL") && i + 1 < argc && !t->ttl) {
            if (!jc_parse_number(jc_arg(argv[++i]), JC_TTL_MAX, &t->ttl) ||
                !t->ttl)
                return "ERR TTL must be seconds, 1 to 31536000000";
        } else if (jc_arg_is(argv[i], "SINCE") && i + 1 < argc && !t->since) {
            if (!jc_parse_number(jc_arg(argv[++i]),
                                 jc_fields[JC_FIELD_END].max, &t->since))
                return "ERR SINCE must be epoch seconds";
        } else if (jc_arg_is(argv[i], "INDEXES")) {
            t->indexes = true;
        } else if (jc_arg_is(argv[i], "DRYRUN")) {
            t->dry = true;
        } else {
            return "ERR syntax: SLURMJC.TAKE prefix cursor count [CLUSTER name] "
                   "[TTL s] [SINCE t] [INDEXES] [DRYRUN]";
        }
    }
    return NULL;
}

/* INDEX has to know the name as well: it stays. */
static const char *name_cluster(struct taking *t)
{
    RedisModuleString *key = jc_key_name(t->ctx, t->prefix, NULL,
                                         (struct jc_slice){"cluster", 7});
    RedisModuleKey *named;
    struct jc_slice old = jc_hash_cluster(t->ctx, t->prefix, &named);
    int type = RedisModule_KeyType(named);
    bool same = old.p && old.n == t->cluster.n &&
                !memcmp(old.p, t->cluster.p, old.n);

    if (!t->cluster.n)
        t->cluster = old; /* as long as nobody writes the key, so: this command */
    if (named)
        RedisModule_CloseKey(named);
    if (type != REDISMODULE_KEYTYPE_EMPTY && type != REDISMODULE_KEYTYPE_STRING)
        return "WRONGTYPE the key of the cluster's name holds something else "
               "than a string";
    if (!same && t->cluster.n && t->cluster.p != old.p && !t->dry)
        RedisModule_Call(t->ctx, "SET", "!sb", key, t->cluster.p,
                         (size_t)t->cluster.n);
    return NULL;
}

/* ---- one key ---- */

/* Sends the records that wait, all of one time to live. */
static void tell_records(struct taking *t)
{
    if (t->records.n && t->records_ttl)
        RedisModule_Replicate(t->ctx, "SLURMJC.PUT", "sclcv", t->name, "TTL",
                              (long long)t->records_ttl, "RECORDS",
                              t->records.word, t->records.n);
    else if (t->records.n)
        RedisModule_Replicate(t->ctx, "SLURMJC.PUT", "scv", t->name, "RECORDS",
                              t->records.word, t->records.n);
    drop_words(&t->records);
}

static void refuse(struct taking *t, const struct jc_hash *h, const char *why)
{
    struct jc_slice key = jc_arg(h->name);

    add_word(&t->refused, key.p, key.n);
    add_word(&t->refused, why, strlen(why));
}

static void take_job(struct taking *t, struct jc_hash *h)
{
    uint64_t ttl = jc_hash_ttl(h, t->ttl);
    struct jc_slice key = jc_arg(h->name);
    const char *why;

    if (h->expires == REDISMODULE_NO_EXPIRE &&
        h->rec.number[JC_FIELD_END].value < t->since) {
        t->early++;
        return;
    }
    if (t->dry) {
        t->stored++;
        return;
    }
    why = jc_putter_prepare(&t->putter, &h->rec);
    if (why) {
        refuse(t, h, why);
        return;
    }
    if (jc_putter_store(&t->putter, &h->rec, ttl) == JC_PUT_KNOWN)
        t->known++;
    else
        t->stored++;
    if (ttl != t->records_ttl)
        tell_records(t);
    t->records_ttl = ttl;
    add_word(&t->records, (const char *)h->raw.p, h->raw.n);
    add_word(&t->gone, key.p, key.n);
    jc_hash_unlink(h, t->ctx);
}

static void take_hash(struct taking *t, struct jc_slice job_id)
{
    const char *why = NULL;
    struct jc_hash h;
    enum jc_hash_kind kind =
        jc_hash_open(&h, t->ctx, t->prefix, job_id, t->cluster, &why);

    if (kind == JC_HASH_JOB)
        take_job(t, &h);
    else if (kind == JC_HASH_BAD)
        refuse(t, &h, why);
    jc_hash_close(&h);
}

/* One of upstream's index sets, whose members are job ids. */
static void take_index(struct taking *t, RedisModuleString *name)
{
    RedisModuleKey *key =
        RedisModule_OpenKey(t->ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);

    if (RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_SET) {
        t->sets++;
        if (t->indexes && !t->dry) {
            struct jc_slice s = jc_arg(name);

            add_word(&t->gone, s.p, s.n);
            RedisModule_UnlinkKey(key);
        }
    }
    RedisModule_CloseKey(key);
}

static bool is_digits(struct jc_slice s)
{
    for (uint32_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

static void look_at(struct taking *t, struct jc_slice key)
{
    static const char INDEX[] = "idx:end:";
    struct jc_slice id;

    if (key.n <= t->prefix.n || memcmp(key.p, t->prefix.p, t->prefix.n) ||
        key.p[t->prefix.n] != ':')
        return;
    id = (struct jc_slice){key.p + t->prefix.n + 1, key.n - t->prefix.n - 1};
    if (is_digits(id)) {
        take_hash(t, id);
    } else if (id.n > sizeof(INDEX) - 1 &&
               !memcmp(id.p, INDEX, sizeof(INDEX) - 1)) {
        id.p += sizeof(INDEX) - 1;
        id.n -= sizeof(INDEX) - 1;
        if (is_digits(id))
            take_index(t, RedisModule_CreateString(t->ctx, key.p, key.n));
    }
}

/* ---- the command ---- */

static void look_at_all(struct taking *t, RedisModuleCallReply *keys)
{
    size_t n = RedisModule_CallReplyLength(keys);

    for (size_t i = 0; i < n; i++) {
        size_t len = 0;
        const char *p = RedisModule_CallReplyStringPtr(
            RedisModule_CallReplyArrayElement(keys, i), &len);

        if (p)
            look_at(t, (struct jc_slice){p, (uint32_t)len});
    }
}

/* The effects for replicas and files: records first, then what they replace. */
static void tell(struct taking *t)
{
    tell_records(t);
    if (t->gone.n)
        RedisModule_Replicate(t->ctx, "UNLINK", "v", t->gone.word, t->gone.n);
}

static void reply(struct taking *t, RedisModuleString *cursor)
{
    RedisModule_ReplyWithArray(t->ctx, 6);
    RedisModule_ReplyWithString(t->ctx, cursor);
    RedisModule_ReplyWithLongLong(t->ctx, t->stored);
    RedisModule_ReplyWithLongLong(t->ctx, t->known);
    RedisModule_ReplyWithLongLong(t->ctx, t->early);
    RedisModule_ReplyWithLongLong(t->ctx, t->sets);
    RedisModule_ReplyWithArray(t->ctx, (long)t->refused.n);
    for (size_t i = 0; i < t->refused.n; i++)
        RedisModule_ReplyWithString(t->ctx, t->refused.word[i]);
}

/* What SCAN wants to be given to find any key of the prefix. */
static RedisModuleString *pattern_of(struct taking *t)
{
    RedisModuleString *pattern = RedisModule_CreateString(t->ctx, "", 0);

    for (uint32_t i = 0; i < t->prefix.n; i++) { /* word for word */
        if (strchr("*?[]^\\-", t->prefix.p[i]))
            RedisModule_StringAppendBuffer(t->ctx, pattern, "\\", 1);
        RedisModule_StringAppendBuffer(t->ctx, pattern, t->prefix.p + i, 1);
    }
    RedisModule_StringAppendBuffer(t->ctx, pattern, ":*", 2);
    return pattern;
}

/* Looks at the next few keys. The next cursor, NULL when this one is none. */
static RedisModuleString *take_page(struct taking *t, RedisModuleString *cursor,
                                    RedisModuleString *pattern, uint64_t keys)
{
    RedisModuleCallReply *page =
        RedisModule_Call(t->ctx, "SCAN", "scscl", cursor, "MATCH", pattern,
                         "COUNT", (long long)keys);

    if (!page || RedisModule_CallReplyType(page) != REDISMODULE_REPLY_ARRAY)
        return NULL;
    look_at_all(t, RedisModule_CallReplyArrayElement(page, 1));
    return RedisModule_CreateStringFromCallReply(
        RedisModule_CallReplyArrayElement(page, 0));
}

static int take(struct taking *t, RedisModuleString *cursor, uint64_t count)
{
    RedisModuleString *pattern = pattern_of(t);
    int64_t until = jc_now_us() + SLICE_US;

    /* its segments stay open: within a command nothing expires */
    jc_putter_init(&t->putter, t->ctx, t->prefix);
    do {
        uint64_t keys = count < PAGE_KEYS ? count : PAGE_KEYS;

        cursor = take_page(t, cursor, pattern, keys);
        count -= keys;
    } while (cursor && strcmp(RedisModule_StringPtrLen(cursor, NULL), "0") &&
             count && jc_now_us() < until);
    jc_putter_done(&t->putter);
    tell(t);
    if (!cursor)
        return RedisModule_ReplyWithError(t->ctx, "ERR the cursor must be 0 or "
                                          "what TAKE replied");
    reply(t, cursor);
    return REDISMODULE_OK;
}

int jc_take_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    struct taking t = {.ctx = ctx};
    const char *why;
    uint64_t count;

    if (argc < 4)
        return RedisModule_WrongArity(ctx);
    if (!jc_check_prefix(ctx, argv[1]))
        return REDISMODULE_OK;
    if (!jc_parse_number(jc_arg(argv[3]), COUNT_MAX, &count) || !count)
        return RedisModule_ReplyWithError(ctx, "ERR the count must be 1 to "
                                          "10000");
    RedisModule_AutoMemory(ctx);
    t.name = argv[1];
    why = parse_args(&t, argv, argc);
    if (!why)
        why = name_cluster(&t);
    if (why)
        RedisModule_ReplyWithError(ctx, why);
    else
        take(&t, argv[2], count);
    free_words(&t.gone);
    free_words(&t.records);
    free_words(&t.refused);
    return REDISMODULE_OK;
}

/* SPDX-License-Identifier: MIT */
#include "upstream.h"

#include <stdio.h>
#include <time.h>

#include "reply.h"
#include "store.h"

/* extra's keys for what the record has no field of */
static const char REQ_GRES[] = "req_gres", STATE_FLAGS[] = "state_flags";

/* Slurm's bits beside the base state that are an outcome of their own, and the
 * state of a job that is being resized, of which upstream has the bit alone. */
#define REQUEUED (UINT32_C(1) << 10)
#define REVOKED (UINT32_C(1) << 19)
#define RESIZING (UINT32_C(1) << 13)
#define RUNNING 1

/* ---- replies ---- */

static void reply_string(RedisModuleCtx *ctx, struct jc_slice s)
{
    if (s.p)
        RedisModule_ReplyWithStringBuffer(ctx, s.p, s.n);
    else
        RedisModule_ReplyWithNull(ctx);
}

static void reply_number(RedisModuleCtx *ctx, uint64_t v)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)v);

    RedisModule_ReplyWithStringBuffer(ctx, text, (size_t)n);
}

static void reply_time(RedisModuleCtx *ctx, uint64_t t, bool iso)
{
    char text[40];
    time_t when = (time_t)t;
    struct tm tm;

    if (!iso) {
        reply_number(ctx, t);
        return;
    }
    gmtime_r(&when, &tm);
    RedisModule_ReplyWithStringBuffer(
        ctx, text, strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm));
}

/* code:signal, absent when both are 0. */
static void reply_status(RedisModuleCtx *ctx, struct jc_number status)
{
    char text[24];
    unsigned code = (unsigned)(status.value >> 8) & 0xff;
    unsigned sig = (unsigned)status.value & 0x7f;
    int n = snprintf(text, sizeof(text), "%u:%u", code, sig);

    if (code || sig)
        RedisModule_ReplyWithStringBuffer(ctx, text, (size_t)n);
    else
        RedisModule_ReplyWithNull(ctx);
}

/* Of flags the one whose name sacct shows, before the base state. */
static void reply_state(RedisModuleCtx *ctx, const struct jc_record *rec)
{
    static const uint32_t shown[] = {RESIZING, REQUEUED, REVOKED};
    uint64_t state = rec->number[JC_FIELD_STATE].value;

    for (size_t i = 0; i < sizeof(shown) / sizeof(*shown); i++) {
        if (rec->state_flags & shown[i]) {
            state = shown[i];
            break;
        }
    }
    reply_number(ctx, state);
}

static void reply_limit(RedisModuleCtx *ctx, const struct jc_record *rec)
{
    switch (rec->limit_kind) {
    case JC_LIMIT_MINUTES:
        reply_number(ctx, rec->time_limit);
        break;
    case JC_LIMIT_UNLIMITED:
        RedisModule_ReplyWithStringBuffer(ctx, "I", 1);
        break;
    case JC_LIMIT_PARTITION:
        RedisModule_ReplyWithStringBuffer(ctx, "P", 1);
        break;
    default:
        RedisModule_ReplyWithStringBuffer(ctx, "", 0);
    }
}

static bool find_gres(void *ctx, struct jc_slice key, struct mp_reader value)
{
    struct jc_slice *out = ctx;
    struct mp_value v;

    if (key.n != sizeof(REQ_GRES) - 1 || memcmp(key.p, REQ_GRES, key.n))
        return true;
    if (mp_read(&value, &v) && v.type == MP_STR)
        *out = (struct jc_slice){(const char *)v.p, v.n};
    return false;
}

/* An upstream client ends with abort() or a segmentation fault when a number, a
 * time or the limit is nil: an unknown one is 0, the limit empty. */
void jc_upstream_reply(RedisModuleCtx *ctx, const struct jc_record *rec,
                       bool iso_times)
{
    const struct jc_number *n = rec->number;
    const struct jc_slice *s = rec->string;
    struct jc_slice name = s[JC_FIELD_NAME], gres = {NULL, 0};
    uint64_t start = n[JC_FIELD_START].value, end = n[JC_FIELD_END].value;

    if (!name.n)
        name = (struct jc_slice){"allocation", 10};
    jc_extra_each(rec->extra, find_gres, &gres);
    RedisModule_ReplyWithArray(ctx, JC_UPSTREAM_FIELDS);
    reply_number(ctx, 0);
    reply_number(ctx, iso_times);
    reply_number(ctx, n[JC_FIELD_JOB_ID].value);
    reply_string(ctx, s[JC_FIELD_PARTITION]);
    reply_time(ctx, start, iso_times);
    reply_time(ctx, end, iso_times);
    reply_number(ctx, start && end > start ? end - start : 0);
    reply_number(ctx, n[JC_FIELD_UID].value);
    reply_string(ctx, s[JC_FIELD_USER]);
    reply_number(ctx, n[JC_FIELD_GID].value);
    reply_string(ctx, s[JC_FIELD_GROUP]);
    reply_number(ctx, n[JC_FIELD_NODE_COUNT].value);
    reply_number(ctx, n[JC_FIELD_CPU_COUNT].value);
    reply_string(ctx, s[JC_FIELD_NODES]);
    reply_string(ctx, name);
    reply_state(ctx, rec);
    reply_limit(ctx, rec);
    reply_string(ctx, s[JC_FIELD_WORK_DIR]);
    reply_string(ctx, s[JC_FIELD_RESERVATION]);
    reply_string(ctx, gres);
    reply_string(ctx, s[JC_FIELD_ACCOUNT]);
    reply_string(ctx, s[JC_FIELD_QOS]);
    reply_string(ctx, s[JC_FIELD_WCKEY]);
    reply_string(ctx, s[JC_FIELD_CLUSTER]);
    reply_time(ctx, n[JC_FIELD_SUBMIT].value, iso_times);
    reply_time(ctx, n[JC_FIELD_ELIGIBLE].value, iso_times);
    reply_status(ctx, n[JC_FIELD_DERIVED_EXIT_CODE]);
    reply_status(ctx, n[JC_FIELD_EXIT_CODE]);
}

/* ---- values in hashes ---- */

/* A field's value, {NULL, 0} when absent; lives as long as key's context. */
static struct jc_slice field(RedisModuleKey *key, const char *name)
{
    RedisModuleString *v = NULL;

    RedisModule_HashGet(key, REDISMODULE_HASH_CFIELDS, name, &v, NULL);
    return v ? jc_arg(v) : (struct jc_slice){NULL, 0};
}

/* Epoch seconds, or YYYY-MM-DDTHH:MM:SSZ when iso. */
static bool parse_time(struct jc_slice s, bool iso, uint64_t *out)
{
    char text[32];
    struct tm tm = {0};
    char *end;
    time_t t;

    if (!iso)
        return jc_parse_number(s, jc_fields[JC_FIELD_END].max, out);
    if (!s.n || s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (!end || *end)
        return false;
    t = timegm(&tm);
    if (t < 0 || (uint64_t)t > jc_fields[JC_FIELD_END].max)
        return false;
    *out = (uint64_t)t;
    return true;
}

/* ---- a query's keys ---- */

struct query_set {
    const char *key, *criterion;
};

static const struct query_set query_sets[] = {
    {"gid", "gid"},       {"job", "job"},   {"jnm", "name"},
    {"prt", "partition"}, {"stt", "state"}, {"uid", "uid"},
};

static bool add_set(RedisModuleCtx *ctx, RedisModuleString *hash,
                    const struct query_set *set, struct jc_criteria *c)
{
    RedisModuleString *name = RedisModule_CreateStringPrintf(
        ctx, "%s:%s", RedisModule_StringPtrLen(hash, NULL), set->key);
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "SMEMBERS", "s", name);
    struct jc_slice criterion = {set->criterion,
                                 (uint32_t)strlen(set->criterion)};
    size_t n = reply ? RedisModule_CallReplyLength(reply) : 0;
    bool ok = reply && RedisModule_CallReplyType(reply) !=
                           REDISMODULE_REPLY_ERROR;

    for (size_t i = 0; i < n && ok; i++) {
        RedisModuleCallReply *e = RedisModule_CallReplyArrayElement(reply, i);
        size_t len = 0;
        const char *p = e ? RedisModule_CallReplyStringPtr(e, &len) : NULL;

        ok = p && jc_criteria_add(c, criterion,
                                  (struct jc_slice){p, (uint32_t)len});
    }
    if (reply)
        RedisModule_FreeCallReply(reply);
    RedisModule_FreeString(ctx, name);
    if (!ok)
        jc_reply_error(ctx, "ERR the query's set '%s' can't be read%s%s",
                       set->key, c->why[0] ? ": " : "", c->why);
    return ok;
}

static bool add_window(RedisModuleCtx *ctx, RedisModuleKey *key,
                       struct jc_criteria *c, bool iso)
{
    struct jc_slice start = field(key, "Start"), end = field(key, "End");
    struct jc_slice min = field(key, "NNodesMin"),
                    max = field(key, "NNodesMax");
    uint64_t lo = 0, hi = 0;

    if ((start.p && !parse_time(start, iso, &c->start)) ||
        (end.p && !parse_time(end, iso, &c->end))) {
        jc_reply_error(ctx, "ERR the query's Start or End is no time in the "
                       "form that _tmf %d says", iso);
        return false;
    }
    c->has_start = c->start != 0;
    c->has_end = c->end != 0;
    if ((min.p && !jc_parse_number(min, UINT32_MAX, &lo)) ||
        (max.p && !jc_parse_number(max, UINT32_MAX, &hi)) ||
        (hi && hi < lo)) {
        jc_reply_error(ctx, "ERR the query's NNodesMin and NNodesMax are no "
                       "range");
        return false;
    }
    if (lo || hi)
        jc_ranges_add(&c->numbers[JC_FIELD_NODE_COUNT], lo + 1,
                      hi ? hi + 1 : UINT64_C(1) << 32);
    return true;
}

static bool read_query(RedisModuleCtx *ctx, RedisModuleString *name,
                       RedisModuleKey *key, struct jc_criteria *c,
                       bool *iso_times)
{
    struct jc_slice tmf;

    if (RedisModule_KeyType(key) != REDISMODULE_KEYTYPE_HASH) {
        jc_reply_error(ctx, "WRONGTYPE the query's key holds something else "
                       "than a hash");
        return false;
    }
    tmf = field(key, "_tmf");
    *iso_times = tmf.n == 1 && tmf.p[0] == '1';
    if (!add_window(ctx, key, c, *iso_times))
        return false;
    for (size_t i = 0; i < sizeof(query_sets) / sizeof(*query_sets); i++)
        if (!add_set(ctx, name, &query_sets[i], c))
            return false;
    if (jc_criteria_done(c))
        return true;
    jc_reply_error(ctx, "ERR %s", c->why);
    return false;
}

bool jc_upstream_criteria(RedisModuleCtx *ctx, struct jc_slice prefix,
                          struct jc_slice id, struct jc_criteria *c,
                          bool *iso_times)
{
    RedisModuleString *name = jc_key_name(ctx, prefix, "qry", id);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    bool ok = true;

    RedisModule_AutoMemory(ctx);
    if (key) {
        ok = read_query(ctx, name, key, c, iso_times);
        RedisModule_CloseKey(key);
    }
    RedisModule_FreeString(ctx, name);
    return ok;
}

/* ---- a job's hash ---- */

/* Fields that become a number, a time or a string as they are. */
static const struct {
    const char *name;
    unsigned field;
} job_fields[] = {
    {"JobID", JC_FIELD_JOB_ID},       {"Partition", JC_FIELD_PARTITION},
    {"Start", JC_FIELD_START},        {"End", JC_FIELD_END},
    {"UID", JC_FIELD_UID},            {"User", JC_FIELD_USER},
    {"GID", JC_FIELD_GID},            {"Group", JC_FIELD_GROUP},
    {"NNodes", JC_FIELD_NODE_COUNT},  {"NCPUs", JC_FIELD_CPU_COUNT},
    {"NodeList", JC_FIELD_NODES},     {"JobName", JC_FIELD_NAME},
    {"WorkDir", JC_FIELD_WORK_DIR},
    {"ResvName", JC_FIELD_RESERVATION}, {"Account", JC_FIELD_ACCOUNT},
    {"QOS", JC_FIELD_QOS},            {"WCKey", JC_FIELD_WCKEY},
    {"Cluster", JC_FIELD_CLUSTER},    {"Submit", JC_FIELD_SUBMIT},
    {"Eligible", JC_FIELD_ELIGIBLE},
};

static bool take_field(struct jc_record *rec, unsigned at, struct jc_slice v,
                       bool iso)
{
    struct jc_number *n = &rec->number[at];

    if (jc_fields[at].kind == JC_KIND_STRING) {
        rec->string[at] = v;
        return !memchr(v.p, 0, v.n);
    }
    n->known = true;
    if (at >= JC_FIELD_SUBMIT && at <= JC_FIELD_END)
        return parse_time(v, iso, &n->value);
    return jc_parse_number(v, jc_fields[at].max, &n->value);
}

/* code:signal; absent means 0:0. */
static bool take_status(struct jc_number *out, struct jc_slice v)
{
    const char *colon = v.n ? memchr(v.p, ':', v.n) : NULL;
    uint64_t code = 0, sig = 0;

    *out = (struct jc_number){0, true};
    if (!v.p)
        return true;
    if (!colon ||
        !jc_parse_number((struct jc_slice){v.p, (uint32_t)(colon - v.p)}, 255,
                         &code) ||
        !jc_parse_number((struct jc_slice){
            colon + 1, v.n - (uint32_t)(colon - v.p) - 1}, 127, &sig))
        return false;
    out->value = code << 8 | sig;
    return true;
}

static bool take_limit(struct jc_record *rec, struct jc_slice v)
{
    uint64_t minutes;

    if (!v.p) {
        rec->limit_kind = JC_LIMIT_NIL;
    } else if (v.n == 1 && v.p[0] == 'I') {
        rec->limit_kind = JC_LIMIT_UNLIMITED;
    } else if (v.n == 1 && v.p[0] == 'P') {
        rec->limit_kind = JC_LIMIT_PARTITION;
    } else {
        if (!jc_parse_number(v, jc_fields[JC_FIELD_TIME_LIMIT].max, &minutes))
            return false;
        rec->limit_kind = JC_LIMIT_MINUTES;
        rec->time_limit = (uint32_t)minutes;
    }
    return true;
}

static bool take_state(struct jc_record *rec, struct jc_slice v)
{
    struct jc_number *n = &rec->number[JC_FIELD_STATE];

    n->known = jc_parse_number(v, RESIZING, &n->value);
    if (n->value == RESIZING) {
        rec->state_flags = RESIZING;
        n->value = RUNNING;
    }
    return n->known && n->value <= jc_fields[JC_FIELD_STATE].max;
}

static void take_extra(struct jc_record *rec, struct jc_slice gres,
                       struct jc_buffer *extra)
{
    struct mp_writer w;

    if (!gres.p && !rec->state_flags)
        return;
    jc_buffer_reserve(extra, gres.n + sizeof(REQ_GRES) + sizeof(STATE_FLAGS) +
                                 32);
    mp_writer_init(&w, extra->p, extra->room);
    mp_write_map(&w, !!gres.p + !!rec->state_flags);
    if (gres.p) {
        mp_write_str(&w, REQ_GRES, sizeof(REQ_GRES) - 1);
        mp_write_str(&w, gres.p, gres.n);
    }
    if (rec->state_flags) {
        mp_write_str(&w, STATE_FLAGS, sizeof(STATE_FLAGS) - 1);
        mp_write_uint(&w, rec->state_flags);
    }
    extra->n = (size_t)(w.pos - extra->p);
    rec->extra = (struct jc_slice){(const char *)extra->p,
                                   (uint32_t)extra->n};
}

const char *jc_upstream_record(RedisModuleKey *key, struct jc_slice cluster,
                               struct jc_record *rec, struct jc_buffer *extra)
{
    struct jc_slice tmf = field(key, "_tmf");
    bool iso = tmf.n == 1 && tmf.p[0] == '1';

    if (tmf.p && !iso && !(tmf.n == 1 && tmf.p[0] == '0'))
        return "_tmf is neither 0 nor 1";
    memset(rec, 0, sizeof(*rec));
    rec->number[JC_FIELD_VERSION] = (struct jc_number){JC_RECORD_VERSION, true};
    rec->number[JC_FIELD_RESTART_COUNT].known = true;
    for (size_t i = 0; i < sizeof(job_fields) / sizeof(*job_fields); i++) {
        unsigned at = job_fields[i].field;
        struct jc_slice v = field(key, job_fields[i].name);

        if (v.p && !take_field(rec, at, v, iso))
            return "a field of the hash is no number, time or string that "
                   "belongs there";
        if (!v.p && jc_fields[at].required) {
            if (at < JC_FIELD_SUBMIT)
                return "the hash lacks JobID, UID or GID";
            rec->number[at].known = true; /* a time that never was */
        }
    }
    if (!take_state(rec, field(key, "State")))
        return "State is no state of a job";
    if (!take_status(&rec->number[JC_FIELD_EXIT_CODE], field(key, "EC")) ||
        !take_status(&rec->number[JC_FIELD_DERIVED_EXIT_CODE],
                     field(key, "DerivedEC")))
        return "EC or DerivedEC is not code:signal";
    if (!take_limit(rec, field(key, "TimeLimit")))
        return "TimeLimit is neither minutes nor I nor P";
    if (!rec->string[JC_FIELD_NODES].n) /* it has its end there */
        rec->number[JC_FIELD_START].value = 0;
    if (!rec->string[JC_FIELD_CLUSTER].n && cluster.n)
        rec->string[JC_FIELD_CLUSTER] = cluster;
    take_extra(rec, field(key, "ReqGRES"), extra);
    return NULL;
}

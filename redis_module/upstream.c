/* SPDX-License-Identifier: MIT */
#include "upstream.h"

#include <ctype.h>
#include <stdio.h>
#include <time.h>

#include "reply.h"
#include "store.h"

/* extra's key for a flag beside the state */
static const char STATE_FLAGS[] = "state_flags";

#define RUNNING 1

/* ---- values in hashes ---- */

/* A field's value, {NULL, 0} when absent; lives as long as key's context. */
static struct jc_slice field(RedisModuleKey *key, const char *name)
{
    RedisModuleString *v = NULL;

    RedisModule_HashGet(key, REDISMODULE_HASH_CFIELDS, name, &v, NULL);
    return v ? jc_arg(v) : (struct jc_slice){NULL, 0};
}

/* Epoch seconds, or YYYY-MM-DDTHH:MM:SSZ when iso: to the letter, as strptime
 * also takes blanks, the 31st of February and what stands behind a NUL. */
static bool parse_time(struct jc_slice s, bool iso, uint64_t *out)
{
    char text[sizeof("YYYY-MM-DDTHH:MM:SSZ")], again[sizeof(text) + 16];
    struct tm tm = {0};
    time_t t;

    if (!iso)
        return jc_parse_number(s, jc_fields[JC_FIELD_END].max, out);
    if (s.n != sizeof(text) - 1)
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    if (!strptime(text, JC_ISO_TIME, &tm))
        return false;
    t = timegm(&tm);
    if (t < 0 || (uint64_t)t > jc_fields[JC_FIELD_END].max ||
        !gmtime_r(&t, &tm) ||
        strftime(again, sizeof(again), JC_ISO_TIME, &tm) != s.n ||
        memcmp(again, s.p, s.n))
        return false;
    *out = (uint64_t)t;
    return true;
}

static bool is_letter(struct jc_slice s, char letter)
{
    return s.n == 1 && s.p[0] == letter;
}

/* What _abi and _tmf say of the other fields; absent is 0. NULL, or what is
 * wrong. */
static const char *read_form(RedisModuleKey *key, bool *iso)
{
    struct jc_slice abi = field(key, "_abi"), tmf = field(key, "_tmf");

    if (abi.p && !is_letter(abi, '0'))
        return "_abi is not 0";
    *iso = is_letter(tmf, '1');
    if (tmf.p && !*iso && !is_letter(tmf, '0'))
        return "_tmf is neither 0 nor 1";
    return NULL;
}

/* ---- a query's keys ---- */

struct query_set {
    const char *key, *criterion;
};

static const struct query_set query_sets[] = {
    {"gid", "gid"},       {"job", "job"},   {"jnm", "name"},
    {"prt", "partition"}, {"stt", "state"}, {"uid", "uid"},
};

struct set_reading {
    struct jc_criteria *c;
    struct jc_slice criterion;
    bool ok;
};

static void add_member(RedisModuleKey *key, RedisModuleString *member,
                       RedisModuleString *none, void *data)
{
    struct set_reading *r = data;

    (void)key;
    (void)none;
    r->ok = r->ok && jc_criteria_add(r->c, r->criterion, jc_arg(member));
}

/* More than sacct's command line has room for. MATCH reads a set in one piece,
 * as often as it is sent. */
#define MEMBERS_MAX 262144

static bool read_set(RedisModuleKey *key, struct set_reading *r)
{
    int type = RedisModule_KeyType(key);
    RedisModuleScanCursor *cursor;

    if (type == REDISMODULE_KEYTYPE_EMPTY)
        return true;
    if (type != REDISMODULE_KEYTYPE_SET) {
        snprintf(r->c->why, sizeof(r->c->why), "its key holds something else");
        return false;
    }
    if (RedisModule_ValueLength(key) > MEMBERS_MAX) {
        snprintf(r->c->why, sizeof(r->c->why), "it has more than %d members",
                 MEMBERS_MAX);
        return false;
    }
    cursor = RedisModule_ScanCursorCreate();
    while (r->ok && RedisModule_ScanKey(key, cursor, add_member, r))
        ;
    RedisModule_ScanCursorDestroy(cursor);
    return r->ok;
}

static bool add_set(RedisModuleCtx *ctx, RedisModuleString *hash,
                    const struct query_set *set, struct jc_criteria *c)
{
    struct set_reading r = {
        c, {set->criterion, (uint32_t)strlen(set->criterion)}, true};
    RedisModuleString *name =
        jc_key_name(ctx, jc_arg(hash), NULL,
                    (struct jc_slice){set->key, (uint32_t)strlen(set->key)});
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    bool ok = read_set(key, &r);

    RedisModule_CloseKey(key);
    RedisModule_FreeString(ctx, name);
    if (!ok)
        jc_reply_error(ctx, "ERR the query's set '%s' can't be read: %s",
                       set->key, c->why);
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
    const char *why;

    if (RedisModule_KeyType(key) != REDISMODULE_KEYTYPE_HASH) {
        jc_reply_error(ctx, "WRONGTYPE the query's key holds something else "
                       "than a hash");
        return false;
    }
    why = read_form(key, iso_times);
    if (why) {
        jc_reply_error(ctx, "ERR the query's %s", why);
        return false;
    }
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

/* As uuid_unparse writes one. */
static bool is_uuid(struct jc_slice id)
{
    static const char FORM[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    if (id.n != sizeof(FORM) - 1)
        return false;
    for (uint32_t i = 0; i < id.n; i++)
        if (FORM[i] == 'x' ? !isxdigit((unsigned char)id.p[i])
                           : id.p[i] != FORM[i])
            return false;
    return true;
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
    } else if (is_uuid(id)) { /* upstream's client, nobody else's */
        ok = false;
        jc_reply_error(ctx, "NOQUERY the keys of the query '%.*s' are gone",
                       (int)id.n, id.p);
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
    } else if (is_letter(v, 'I')) {
        rec->limit_kind = JC_LIMIT_UNLIMITED;
    } else if (is_letter(v, 'P')) {
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

    n->known = jc_parse_number(v, JC_RESIZING, &n->value);
    if (n->value == JC_RESIZING) {
        rec->state_flags = JC_RESIZING;
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
    jc_buffer_reserve(extra, gres.n + sizeof(JC_REQ_GRES) + sizeof(STATE_FLAGS) +
                                 32);
    mp_writer_init(&w, extra->p, extra->room);
    mp_write_map(&w, !!gres.p + !!rec->state_flags);
    if (gres.p) {
        mp_write_str(&w, JC_REQ_GRES, sizeof(JC_REQ_GRES) - 1);
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
    struct jc_slice gres = field(key, "ReqGRES");
    bool iso;
    const char *why = read_form(key, &iso);

    if (why)
        return why;
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
    if (gres.n && memchr(gres.p, 0, gres.n))
        return "ReqGRES holds a NUL byte";
    take_extra(rec, gres, extra);
    return NULL;
}

/* SPDX-License-Identifier: MIT */
#include "store.h"

#include "reply.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- names ---- */

struct jc_slice jc_arg(const RedisModuleString *s)
{
    size_t n;
    const char *p = RedisModule_StringPtrLen(s, &n);

    /* Redis refuses longer arguments (proto-max-bulk-len counts in int) */
    return (struct jc_slice){p, n > UINT32_MAX ? UINT32_MAX : (uint32_t)n};
}

bool jc_arg_is(const RedisModuleString *s, const char *word)
{
    struct jc_slice a = jc_arg(s);

    return a.n == strlen(word) && !strncasecmp(a.p, word, a.n);
}

RedisModuleString *jc_key_name(RedisModuleCtx *ctx, struct jc_slice prefix,
                               const char *kind, struct jc_slice id)
{
    RedisModuleString *name = RedisModule_CreateString(ctx, prefix.p, prefix.n);

    RedisModule_StringAppendBuffer(ctx, name, ":", 1);
    if (kind) {
        RedisModule_StringAppendBuffer(ctx, name, kind, strlen(kind));
        RedisModule_StringAppendBuffer(ctx, name, ":", 1);
    }
    RedisModule_StringAppendBuffer(ctx, name, id.p, id.n);
    return name;
}

bool jc_check_prefix(RedisModuleCtx *ctx, RedisModuleString *prefix)
{
    struct jc_slice p = jc_arg(prefix);
    const char *open = p.n ? memchr(p.p, '{', p.n) : NULL, *close = NULL;

    if (!(RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_CLUSTER))
        return true;
    if (open)
        close = memchr(open, '}', p.n - (size_t)(open - p.p));
    if (close && close > open + 1)
        return true;
    jc_reply_error(ctx, "ERR prefix '%.*s' needs a hash tag in cluster mode, "
                   "such as '{%.*s}'", p.n > 64 ? 64 : (int)p.n, p.p,
                   p.n > 64 ? 64 : (int)p.n, p.p);
    return false;
}

bool jc_parse_segment_key(struct jc_slice key, struct jc_slice *prefix,
                          int64_t *day)
{
    static const char MARK[] = ":seg:";
    uint32_t mark = sizeof(MARK) - 1, at = key.n;
    int64_t v = 0;

    while (at > 0 && key.p[at - 1] >= '0' && key.p[at - 1] <= '9')
        at--;
    if (at == key.n || key.n - at > 7 || at < mark ||
        (key.p[at] == '0' && key.n - at > 1) ||
        memcmp(key.p + at - mark, MARK, mark))
        return false;
    for (uint32_t i = at; i < key.n; i++)
        v = v * 10 + (key.p[i] - '0');
    *prefix = (struct jc_slice){key.p, at - mark};
    *day = v;
    return true;
}

/* ---- the days of each prefix ---- */

struct space {
    int db;
    int64_t *day; /* sorted */
    size_t days;
    size_t room;
};

static RedisModuleDict *spaces; /* db and prefix -> struct space */

static RedisModuleString *space_key(int db, struct jc_slice prefix)
{
    char head[16];
    int n = snprintf(head, sizeof(head), "%d:", db);
    RedisModuleString *key =
        RedisModule_CreateString(NULL, head, (size_t)n);

    RedisModule_StringAppendBuffer(NULL, key, prefix.p, prefix.n);
    return key;
}

static struct space *space_of(int db, struct jc_slice prefix, bool create)
{
    RedisModuleString *key = space_key(db, prefix);
    struct space *sp = RedisModule_DictGet(spaces, key, NULL);

    if (!sp && create) {
        sp = RedisModule_Calloc(1, sizeof(*sp));
        sp->db = db;
        RedisModule_DictSet(spaces, key, sp);
    }
    RedisModule_FreeString(NULL, key);
    return sp;
}

static size_t day_index(const struct space *sp, int64_t day)
{
    size_t lo = 0, hi = sp->days;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (sp->day[mid] < day)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int64_t jc_store_next_day(int db, struct jc_slice prefix, int64_t from)
{
    const struct space *sp = space_of(db, prefix, false);
    size_t i = sp ? day_index(sp, from) : 0;

    return sp && i < sp->days ? sp->day[i] : JC_NO_DAY;
}

void jc_store_add_day(int db, struct jc_slice prefix, int64_t day)
{
    struct space *sp = space_of(db, prefix, true);
    size_t i = day_index(sp, day);

    if (i < sp->days && sp->day[i] == day)
        return;
    if (sp->days == sp->room) {
        sp->room = sp->room ? sp->room * 2 : 4;
        sp->day = RedisModule_Realloc(sp->day, sp->room * sizeof(*sp->day));
    }
    memmove(sp->day + i + 1, sp->day + i, (sp->days - i) * sizeof(*sp->day));
    sp->day[i] = day;
    sp->days++;
}

void jc_store_note_key(int db, const RedisModuleString *key)
{
    struct jc_slice prefix;
    int64_t day;

    if (jc_parse_segment_key(jc_arg(key), &prefix, &day))
        jc_store_add_day(db, prefix, day);
}

void jc_store_remove_day(int db, struct jc_slice prefix, int64_t day)
{
    struct space *sp = space_of(db, prefix, false);
    size_t i = sp ? day_index(sp, day) : 0;
    RedisModuleString *key;

    if (!sp || i == sp->days || sp->day[i] != day)
        return;
    sp->days--;
    memmove(sp->day + i, sp->day + i + 1, (sp->days - i) * sizeof(*sp->day));
    if (sp->days)
        return;
    key = space_key(db, prefix);
    RedisModule_DictDel(spaces, key, NULL);
    RedisModule_FreeString(NULL, key);
    RedisModule_Free(sp->day);
    RedisModule_Free(sp);
}

/* Takes all spaces out of the dictionary and hands them to each(). */
static void each_space(void (*each)(struct space *sp, struct jc_slice prefix,
                                    const int *arg), const int *arg)
{
    RedisModuleDict *old = spaces;
    RedisModuleDictIter *it = RedisModule_DictIteratorStartC(old, "^", NULL, 0);
    struct space *sp;
    char *key;
    size_t n;

    spaces = RedisModule_CreateDict(NULL);
    while ((key = RedisModule_DictNextC(it, &n, (void **)&sp))) {
        char *prefix = (char *)memchr(key, ':', n) + 1;

        each(sp, (struct jc_slice){prefix, (uint32_t)(n - (size_t)(prefix -
                                                                 key))}, arg);
    }
    RedisModule_DictIteratorStop(it);
    RedisModule_FreeDict(NULL, old);
}

static void keep_space(struct space *sp, struct jc_slice prefix)
{
    RedisModuleString *key = space_key(sp->db, prefix);

    RedisModule_DictSet(spaces, key, sp);
    RedisModule_FreeString(NULL, key);
}

static void flush_space(struct space *sp, struct jc_slice prefix,
                        const int *db)
{
    if (*db >= 0 && sp->db != *db) {
        keep_space(sp, prefix);
        return;
    }
    RedisModule_Free(sp->day);
    RedisModule_Free(sp);
}

static void swap_space(struct space *sp, struct jc_slice prefix,
                       const int *dbs)
{
    if (sp->db == dbs[0])
        sp->db = dbs[1];
    else if (sp->db == dbs[1])
        sp->db = dbs[0];
    keep_space(sp, prefix);
}

static uint64_t flushes;

uint64_t jc_store_flushes(void)
{
    return flushes;
}

void jc_store_flush(int db)
{
    flushes++;
    each_space(flush_space, &db);
}

void jc_store_swap(int a, int b)
{
    each_space(swap_space, (int[2]){a, b});
}

void jc_store_init(void)
{
    spaces = RedisModule_CreateDict(NULL);
}

/* ---- opening segments ---- */

static RedisModuleString *segment_name(RedisModuleCtx *ctx,
                                       struct jc_slice prefix, int64_t day)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%lld", (long long)day);

    return jc_key_name(ctx, prefix, "seg",
                       (struct jc_slice){text, (uint32_t)n});
}

const struct jc_segment *jc_open_segment(RedisModuleCtx *ctx,
                                         struct jc_slice prefix, int64_t day,
                                         RedisModuleKey **key)
{
    RedisModuleString *name = segment_name(ctx, prefix, day);
    const struct jc_segment *s;

    *key = RedisModule_OpenKey(ctx, name,
                               REDISMODULE_READ | REDISMODULE_OPEN_KEY_NOTOUCH);
    RedisModule_FreeString(ctx, name);
    if (!*key)
        return NULL;
    if (RedisModule_ModuleTypeGetType(*key) == jc_segment_type) {
        s = RedisModule_ModuleTypeGetValue(*key);
        if (s->day == day) /* a renamed key may hold another day */
            return s;
    }
    RedisModule_CloseKey(*key);
    *key = NULL;
    return NULL;
}

bool jc_open_segment_write(RedisModuleCtx *ctx, struct jc_slice prefix,
                           int64_t day, RedisModuleKey **key,
                           struct jc_segment **s)
{
    RedisModuleString *name = segment_name(ctx, prefix, day);

    *s = NULL;
    *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    RedisModule_FreeString(ctx, name);
    if (RedisModule_KeyType(*key) == REDISMODULE_KEYTYPE_EMPTY)
        return true;
    if (RedisModule_ModuleTypeGetType(*key) == jc_segment_type) {
        *s = RedisModule_ModuleTypeGetValue(*key);
        if ((*s)->day == day)
            return true;
    }
    RedisModule_CloseKey(*key);
    *key = NULL;
    *s = NULL;
    return false;
}

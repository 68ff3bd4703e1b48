/* SPDX-License-Identifier: MIT */
#include "put.h"

#include <string.h>

struct jc_put_target {
    int64_t day;
    RedisModuleKey *key;  /* NULL: only looked at so far */
    struct jc_segment *s; /* NULL: the key is empty */
    uint64_t expires;     /* of the segment when it was opened */
    bool changed;
    uint32_t unchecked;   /* records since the segment was found not full */
};

void jc_putter_init(struct jc_putter *p, RedisModuleCtx *ctx,
                    struct jc_slice prefix)
{
    *p = (struct jc_putter){.ctx = ctx, .prefix = prefix};
}

static size_t target_index(const struct jc_putter *p, int64_t day)
{
    size_t lo = 0, hi = p->targets;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (p->target[mid].day < day)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct jc_put_target *add_target(struct jc_putter *p, size_t i,
                                        struct jc_put_target t)
{
    t.expires = t.s ? jc_segment_expires(t.s) : 0;
    if (p->targets == p->room) {
        p->room = p->room ? p->room * 2 : 4;
        p->target = jc_host.resize(p->target, p->room * sizeof(*p->target));
    }
    memmove(p->target + i + 1, p->target + i,
            (p->targets - i) * sizeof(*p->target));
    p->target[i] = t;
    p->targets++;
    return &p->target[i];
}

/* The segment of a day, to be written; NULL when its key is of another type. */
static struct jc_put_target *target_of(struct jc_putter *p, int64_t day)
{
    size_t i = target_index(p, day);
    bool there = i < p->targets && p->target[i].day == day;
    struct jc_put_target t = {.day = day};

    if (there && p->target[i].key)
        return &p->target[i];
    if (!jc_open_segment_write(p->ctx, p->prefix, day, &t.key, &t.s))
        return NULL;
    if (!there)
        return add_target(p, i, t);
    p->target[i].key = t.key;
    return &p->target[i];
}

/* The segment of a day to look at, NULL if none. Writing it needs target_of.
 * Nothing else runs during a command, so it stays without its key. */
static struct jc_segment *peek(struct jc_putter *p, int64_t day)
{
    size_t i = target_index(p, day);
    struct jc_put_target t = {.day = day};
    RedisModuleKey *key;

    if (i < p->targets && p->target[i].day == day)
        return p->target[i].s;
    t.s = (struct jc_segment *)jc_open_segment(p->ctx, p->prefix, day, &key);
    if (key)
        RedisModule_CloseKey(key);
    return t.s ? add_target(p, i, t)->s : NULL;
}

/* A segment is called full long before so many records would matter. */
#define CHECK_EVERY 1024

const char *jc_putter_prepare(struct jc_putter *p, const struct jc_record *rec)
{
    int64_t day = jc_day_of(rec->number[JC_FIELD_END].value);
    struct jc_put_target *t = target_of(p, day);

    if (!t)
        return "WRONGTYPE a segment's key holds another kind of value";
    if (!t->s)
        return NULL;
    if (!(t->unchecked++ % CHECK_EVERY) && jc_segment_full(t->s))
        return "ERR the segment of a record's day is full";
    jc_segment_expect(t->s, (uint32_t)rec->number[JC_FIELD_JOB_ID].value);
    return NULL;
}

/* The first day that can hold another report of rec's run: it ended no earlier
 * than it started, unless clocks went back. */
static int64_t first_day_of(const struct jc_record *rec)
{
    uint64_t since = rec->number[JC_FIELD_SUBMIT].value;

    if (jc_segment_backward_seen())
        return 0;
    if (rec->number[JC_FIELD_START].value > since)
        since = rec->number[JC_FIELD_START].value;
    return jc_day_of(since);
}

static bool may_hold(const struct jc_segment *s, const struct jc_record *rec)
{
    uint64_t id = rec->number[JC_FIELD_JOB_ID].value;

    return id >= s->lowest_id && id <= s->highest_id;
}

static void note_day(struct jc_putter *p, int64_t day)
{
    size_t i = p->days;

    p->day = jc_host.resize(p->day, (p->days + 1) * sizeof(*p->day));
    for (; i > 0 && p->day[i - 1] > day; i--)
        p->day[i] = p->day[i - 1];
    p->day[i] = day;
    p->days++;
}

/* The days are asked for once a batch; nobody else adds any meanwhile. */
static void note_days(struct jc_putter *p)
{
    int db = RedisModule_GetSelectedDb(p->ctx);
    int64_t day = 0;

    if (p->day)
        return;
    p->day = jc_host.alloc(sizeof(*p->day));
    while ((day = jc_store_next_day(db, p->prefix, day)) != JC_NO_DAY)
        note_day(p, day++);
}

/*
 * Looks for another report of rec's run on other days. An earlier one is taken
 * out: it is replaced; when there is a later one, rec is known and must not
 * replace it. *ttl grows to the other's.
 */
static enum jc_put displace(struct jc_putter *p, const struct jc_record *rec,
                            uint64_t *ttl)
{
    enum jc_put found = JC_PUT_NEW;
    int64_t own = jc_day_of(rec->number[JC_FIELD_END].value);
    int64_t first = first_day_of(rec);

    note_days(p);
    for (size_t i = p->days; i > 0 && p->day[i - 1] >= first; i--) {
        int64_t day = p->day[i - 1];
        struct jc_segment *s;
        struct jc_put_target *t;
        struct jc_place place;
        uint64_t other;

        if (day == own || !(s = peek(p, day)) || !may_hold(s, rec) ||
            !jc_segment_find_run(s, rec, &place))
            continue;
        if (day > own)
            return JC_PUT_KNOWN;
        t = target_of(p, day);
        if (!t)
            continue; /* never behind peek, which found a segment */
        found = JC_PUT_REPLACED;
        other = jc_block_code(s->order[place.block], place.row, JC_COL_TTL);
        *ttl = !*ttl || !other ? 0 : *ttl > other ? *ttl : other;
        jc_segment_remove(s, place);
        t->changed = true;
    }
    return found;
}

enum jc_put jc_putter_store(struct jc_putter *p, const struct jc_record *rec,
                            uint64_t ttl)
{
    int64_t day = jc_day_of(rec->number[JC_FIELD_END].value);
    enum jc_put elsewhere = displace(p, rec, &ttl), here;
    struct jc_put_target *t;

    if (elsewhere == JC_PUT_KNOWN)
        return JC_PUT_KNOWN;
    if (!target_of(p, day)->s) {
        note_day(p, day);
        target_of(p, day)->s = jc_segment_new(day);
    }
    t = target_of(p, day);
    here = jc_segment_put(t->s, rec, ttl);
    if (here != JC_PUT_KNOWN) {
        p->stored++;
        t->changed = true;
    }
    return here == JC_PUT_NEW ? elsewhere : here;
}

/* Attaches a new segment to its key, deletes an emptied one, sets expiry, and
 * tells whoever listens. */
static void settle(struct jc_putter *p, struct jc_put_target *t)
{
    int db = RedisModule_GetSelectedDb(p->ctx);
    uint64_t expires = t->s ? jc_segment_expires(t->s) : 0;

    if (!t->s)
        return;
    if (RedisModule_KeyType(t->key) == REDISMODULE_KEYTYPE_EMPTY) {
        RedisModule_ModuleTypeSetValue(t->key, jc_segment_type, t->s);
        jc_store_add_day(db, p->prefix, t->day);
        if (expires)
            RedisModule_SetAbsExpire(t->key, (mstime_t)(expires * 1000));
    } else if (!t->s->rows) {
        RedisModule_DeleteKey(t->key);
        t->s = NULL;
    } else if (expires != t->expires) {
        RedisModule_SetAbsExpire(t->key, expires
                                             ? (mstime_t)(expires * 1000)
                                             : REDISMODULE_NO_EXPIRE);
    }
    if (t->changed)
        RedisModule_NotifyKeyspaceEvent(
            p->ctx, REDISMODULE_NOTIFY_MODULE, "slurmjc.put",
            (RedisModuleString *)RedisModule_GetKeyNameFromModuleKey(t->key));
}

/* Packs a block of a day that gets no jobs now; false if it has none to pack. */
static bool cool_day(struct jc_putter *p, int64_t day)
{
    size_t i = target_index(p, day);
    struct jc_segment *s;

    if (i < p->targets && p->target[i].day == day && p->target[i].changed)
        return false;
    s = peek(p, day);
    return s && jc_segment_cool(s);
}

#define COOL_LOOK 8 /* days */

/* Of the days but the last packs a block: one a batch, so that no batch takes
 * long, and another day's each time. */
static void cool(struct jc_putter *p)
{
    static size_t turn;

    for (unsigned i = 0; i < COOL_LOOK && p->days > 1; i++)
        if (cool_day(p, p->day[turn++ % (p->days - 1)]))
            return;
}

void jc_putter_done(struct jc_putter *p)
{
    cool(p);
    for (size_t i = 0; i < p->targets; i++) {
        struct jc_put_target *t = &p->target[i];

        if (!t->key)
            continue;
        settle(p, t);
        RedisModule_CloseKey(t->key);
    }
    if (p->target)
        jc_host.free(p->target);
    if (p->day)
        jc_host.free(p->day);
    p->target = NULL;
    p->day = NULL;
    p->days = 0;
    p->targets = p->room = 0;
}

/* SPDX-License-Identifier: MIT */
#include "agg.h"

#include <stdio.h>
#include <strings.h>

#include "hash.h"

struct jc_agg_local {
    uint64_t code[2];
    uint32_t group; /* + 1, 0 = free */
};

static const struct jc_agg_key keys[] = {
    {"user", JC_AGG_STRING, JC_FIELD_USER, 0},
    {"account", JC_AGG_STRING, JC_FIELD_ACCOUNT, 0},
    {"partition", JC_AGG_STRING, JC_FIELD_PARTITION, 0},
    {"state", JC_AGG_NUMBER, JC_FIELD_STATE, 0},
    {"qos", JC_AGG_STRING, JC_FIELD_QOS, 0},
    {"name", JC_AGG_STRING, JC_FIELD_NAME, 0},
    {"cluster", JC_AGG_STRING, JC_FIELD_CLUSTER, 0},
    {"day", JC_AGG_TIME, JC_FIELD_END, JC_DAY_SECONDS},
    {"hour", JC_AGG_TIME, JC_FIELD_END, 3600},
};

const struct jc_agg_key *jc_agg_key_of(struct jc_slice name)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        if (strlen(keys[i].name) == name.n &&
            !strncasecmp(keys[i].name, name.p, name.n))
            return &keys[i];
    return NULL;
}

void jc_agg_free(struct jc_agg *a)
{
    jc_dict_free(&a->names);
    if (a->group)
        jc_host.free(a->group);
    if (a->local)
        jc_host.free(a->local);
    if (a->direct)
        jc_host.free(a->direct);
    if (a->columns)
        jc_host.free(a->columns);
    *a = (struct jc_agg){0};
}

/* ---- names: one byte for absent or not, text; NUL; the same again ---- */

static struct jc_slice text_of(const struct jc_segment *s,
                               const struct jc_agg_key *k, uint64_t code,
                               char number[24])
{
    if (k->by == JC_AGG_STRING)
        return code ? jc_dict_get(&s->dict[k->col], (uint32_t)(code >> 1))
                    : (struct jc_slice){NULL, 0};
    return (struct jc_slice){number, (uint32_t)snprintf(
        number, 24, "%llu", (unsigned long long)code)};
}

/* The group of two codes of s; JC_DICT_NONE when there are too many. */
static uint32_t group_of(struct jc_agg *a, const struct jc_segment *s,
                         const uint64_t code[2])
{
    char number[2][24], *name;
    struct jc_slice part[2] = {{NULL, 0}, {NULL, 0}};
    uint32_t id, n = 0;

    for (unsigned i = 0; i < 2 && a->key[i].by; i++)
        part[i] = text_of(s, &a->key[i], code[i], number[i]);
    name = jc_host.alloc((size_t)part[0].n + part[1].n + 3);
    for (unsigned i = 0; i < 2; i++) {
        name[n++] = part[i].p ? '+' : '-';
        if (part[i].n)
            memcpy(name + n, part[i].p, part[i].n);
        n += part[i].n;
        if (!i)
            name[n++] = 0;
    }
    id = jc_dict_find(&a->names, (struct jc_slice){name, n});
    if (id == JC_DICT_NONE && a->names.count < JC_AGG_GROUPS_MAX)
        id = jc_dict_add(&a->names, (struct jc_slice){name, n});
    jc_host.free(name);
    if (id == JC_DICT_NONE) {
        a->full = true;
        return id;
    }
    if (id >= a->room) {
        uint32_t room = a->room ? a->room * 2 : 16;

        a->group = jc_host.resize(a->group, room * sizeof(*a->group));
        memset(a->group + a->room, 0, (room - a->room) * sizeof(*a->group));
        a->room = room;
    }
    return id;
}

struct jc_slice jc_agg_name(const struct jc_agg *a, uint32_t group, unsigned i)
{
    struct jc_slice name = jc_dict_get(&a->names, group);
    const char *nul = memchr(name.p, 0, name.n);
    const char *p = i ? nul + 1 : name.p;
    const char *end = i ? name.p + name.n : nul;

    if (*p == '-')
        return (struct jc_slice){NULL, 0};
    return (struct jc_slice){p + 1, (uint32_t)(end - p - 1)};
}

/* ---- codes of one segment -> group ---- */

static struct jc_agg_local *local_slot(const struct jc_agg *a,
                                       const uint64_t code[2])
{
    uint32_t mask = a->slots - 1;
    uint32_t at = (uint32_t)(jc_fold(code[0] ^ UINT64_C(0x9e3779b97f4a7c15),
                                     code[1] ^ UINT64_C(0xe7037ed1a0b428db)))
                  & mask;

    while (a->local[at].group && (a->local[at].code[0] != code[0] ||
                                  a->local[at].code[1] != code[1]))
        at = (at + 1) & mask;
    return &a->local[at];
}

static void grow_local(struct jc_agg *a)
{
    struct jc_agg_local *old = a->local;
    uint32_t slots = a->slots;

    a->slots = slots ? slots * 2 : 1024;
    a->local = jc_host.alloc(a->slots * sizeof(*a->local));
    memset(a->local, 0, a->slots * sizeof(*a->local));
    for (uint32_t i = 0; i < slots; i++)
        if (old[i].group)
            *local_slot(a, old[i].code) = old[i];
    if (old)
        jc_host.free(old);
}

static struct jc_agg_group *find_group(struct jc_agg *a,
                                       const struct jc_segment *s,
                                       const uint64_t code[2])
{
    struct jc_agg_local *l;
    uint32_t group;

    if (a->locals * 2 >= a->slots)
        grow_local(a);
    l = local_slot(a, code);
    if (l->group)
        return &a->group[l->group - 1];
    group = group_of(a, s, code);
    if (group == JC_DICT_NONE)
        return NULL;
    *l = (struct jc_agg_local){{code[0], code[1]}, group + 1};
    a->locals++;
    return &a->group[group];
}

/* ---- one key with few codes: no hashing ---- */

#define DIRECT_MAX 65536

/* Turns to another segment. */
static void bind(struct jc_agg *a, const struct jc_segment *s)
{
    const struct jc_agg_key *k = &a->key[0];
    uint32_t codes = 0;

    a->serial = s->serial;
    a->locals = 0;
    if (a->local)
        memset(a->local, 0, a->slots * sizeof(*a->local));
    if (!a->key[1].by && k->by == JC_AGG_NUMBER)
        codes = 256;
    else if (!a->key[1].by && k->by == JC_AGG_STRING &&
             s->dict[k->col].count < DIRECT_MAX)
        codes = s->dict[k->col].count + 1;
    if (codes > a->directs)
        a->direct = jc_host.resize(a->direct, codes * sizeof(*a->direct));
    a->directs = codes;
    if (codes)
        memset(a->direct, 0, codes * sizeof(*a->direct));
}

/* The place of a code in direct. */
static uint64_t direct_of(const struct jc_agg_key *k, uint64_t code)
{
    return k->by == JC_AGG_STRING ? (code + 1) >> 1 : code;
}

static struct jc_agg_group *group_at(struct jc_agg *a,
                                     const struct jc_segment *s, uint64_t k0,
                                     uint64_t k1)
{
    uint64_t at = direct_of(&a->key[0], k0);
    uint32_t group;

    if (at >= a->directs) /* none, or the dictionary has grown */
        return find_group(a, s, (uint64_t[2]){k0, k1});
    if (a->direct[at])
        return &a->group[a->direct[at] - 1];
    group = group_of(a, s, (uint64_t[2]){k0, k1});
    if (group == JC_DICT_NONE)
        return NULL;
    a->direct[at] = group + 1;
    return &a->group[group];
}

/* ---- rows ---- */

/* Rows taken together: few enough for the processor's nearest cache. */
#define TILE 256

struct jc_agg_columns {
    uint32_t from, rows; /* of the block */
    uint64_t key[2][TILE];
    uint64_t start[TILE], end[TILE];
    uint64_t wait[TILE], run[TILE];
    uint64_t nodes[TILE], cpus[TILE];
};

static void load(const struct jc_agg_columns *c, const struct jc_block *b,
                 unsigned col, uint64_t out[TILE])
{
    jc_block_part(b, col, c->from, c->rows, out);
}

static void load_keys(struct jc_agg_columns *c, const struct jc_agg *a,
                      const struct jc_block *b)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct jc_agg_key *k = &a->key[i];

        if (!k->by) {
            memset(c->key[i], 0, c->rows * sizeof(uint64_t));
            continue;
        }
        if (k->by == JC_AGG_TIME &&
            b->lo[k->col] / k->step == b->hi[k->col] / k->step) {
            for (uint32_t r = 0; r < c->rows; r++)
                c->key[i][r] = b->lo[k->col] - b->lo[k->col] % k->step;
            continue;
        }
        load(c, b, k->col, c->key[i]);
        for (uint32_t r = 0; k->by == JC_AGG_TIME && r < c->rows; r++)
            c->key[i][r] -= c->key[i][r] % k->step;
    }
}

/* b - a, 0 when that is negative. */
static uint64_t since(uint64_t a, uint64_t b)
{
    return b > a ? b - a : 0;
}

/* Seconds waited and run. The loops over whole columns have no branches, so
 * that the compiler makes vectors of them. */
static void load_seconds(struct jc_agg_columns *c, const struct jc_block *b)
{
    uint64_t *restrict wait = c->wait, *restrict run = c->run;
    const uint64_t *restrict start = c->start, *restrict end = c->end;

    load(c, b, JC_FIELD_START, c->start);
    load(c, b, JC_FIELD_END, c->end);
    load(c, b, JC_FIELD_ELIGIBLE, c->wait);
    if (!b->lo[JC_FIELD_ELIGIBLE]) { /* then it waited since it was submitted */
        load(c, b, JC_FIELD_SUBMIT, c->run);
        for (uint32_t i = 0; i < c->rows; i++)
            wait[i] = wait[i] ? wait[i] : run[i];
    }
    if (b->lo[JC_FIELD_START]) {
        for (uint32_t i = 0; i < c->rows; i++) {
            wait[i] = since(wait[i], start[i]);
            run[i] = since(start[i], end[i]);
        }
        return;
    }
    for (uint32_t i = 0; i < c->rows; i++) {
        wait[i] = since(wait[i], start[i] ? start[i] : end[i]);
        run[i] = start[i] ? since(start[i], end[i]) : 0;
    }
}

static void add_row(struct jc_agg_group *g, const struct jc_agg_columns *c,
                    uint32_t i)
{
    g->jobs++;
    g->wait_seconds += c->wait[i];
    g->run_seconds += c->run[i];
    g->node_seconds += (unsigned __int128)c->run[i] * c->nodes[i];
    g->cpu_seconds += (unsigned __int128)c->run[i] * c->cpus[i];
}

static void add_rows(struct jc_agg *a, const struct jc_segment *s,
                     const uint8_t *match)
{
    const struct jc_agg_columns *c = a->columns;
    struct jc_agg_group *g = NULL;
    uint32_t last = 0; /* the row g is of: neighbours are alike */

    for (uint32_t i = 0; i < c->rows && !a->full; i++) {
        if (!match[i])
            continue;
        if (!g || c->key[0][i] != c->key[0][last] ||
            c->key[1][i] != c->key[1][last])
            g = group_at(a, s, c->key[0][i], c->key[1][i]);
        last = i;
        if (g)
            add_row(g, c, i);
    }
}

void jc_agg_block(struct jc_agg *a, const struct jc_segment *s,
                  const struct jc_block *b, const uint8_t *match)
{
    struct jc_agg_columns *c = a->columns;

    if (!c)
        c = a->columns = jc_host.alloc(sizeof(*c));
    if (a->serial != s->serial)
        bind(a, s);
    for (c->from = 0; c->from < b->rows; c->from += TILE) {
        c->rows = b->rows - c->from < TILE ? b->rows - c->from : TILE;
        load_keys(c, a, b);
        load_seconds(c, b);
        load(c, b, JC_FIELD_NODE_COUNT, c->nodes);
        load(c, b, JC_FIELD_CPU_COUNT, c->cpus);
        for (uint32_t i = 0; i < c->rows; i++) { /* codes are numbers + 1 */
            c->nodes[i] -= c->nodes[i] > 0;
            c->cpus[i] -= c->cpus[i] > 0;
        }
        add_rows(a, s, match + c->from);
    }
}

/* ---- order ---- */

static bool comes_first(const struct jc_agg *a, uint32_t x, uint32_t y)
{
    struct jc_slice nx, ny;
    int c;

    if (a->group[x].jobs != a->group[y].jobs)
        return a->group[x].jobs > a->group[y].jobs;
    nx = jc_dict_get(&a->names, x);
    ny = jc_dict_get(&a->names, y);
    c = memcmp(nx.p, ny.p, nx.n < ny.n ? nx.n : ny.n);
    return c ? c < 0 : nx.n <= ny.n;
}

bool jc_agg_sort_start(const struct jc_agg *a, struct jc_agg_sort *o)
{
    size_t bytes = ((size_t)a->names.count + 1) * sizeof(*o->id);

    *o = (struct jc_agg_sort){.n = a->names.count, .width = 1, .right = 1};
    o->id = jc_host.try_alloc(bytes);
    o->spare = jc_host.try_alloc(bytes);
    for (uint32_t i = 0; i < o->n && o->id; i++)
        o->id[i] = i;
    return o->id && o->spare;
}

void jc_agg_sort_free(struct jc_agg_sort *o)
{
    if (o->id)
        jc_host.free(o->id);
    if (o->spare)
        jc_host.free(o->spare);
    *o = (struct jc_agg_sort){0};
}

static uint32_t at_most(uint64_t v, uint32_t n)
{
    return v < n ? (uint32_t)v : n;
}

/* The ids of two sorted runs side by side become one run of spare. */
static void merge_one(const struct jc_agg *a, struct jc_agg_sort *o)
{
    uint32_t pair = o->at - o->at % (2 * o->width);
    uint32_t mid = at_most((uint64_t)pair + o->width, o->n);
    uint32_t end = at_most((uint64_t)pair + 2 * (uint64_t)o->width, o->n);
    bool left = o->right >= end ||
                (o->left < mid &&
                 comes_first(a, o->id[o->left], o->id[o->right]));

    o->spare[o->at++] = o->id[left ? o->left++ : o->right++];
    if (o->at == end) {
        o->left = end;
        o->right = at_most((uint64_t)end + o->width, o->n);
    }
}

static void next_pass(struct jc_agg_sort *o)
{
    uint32_t *sorted = o->spare;

    o->spare = o->id;
    o->id = sorted;
    o->width *= 2;
    o->at = o->left = 0;
    o->right = at_most(o->width, o->n);
}

bool jc_agg_sort_step(const struct jc_agg *a, struct jc_agg_sort *o,
                      uint32_t steps)
{
    for (; steps > 0 && o->width < o->n; steps--) {
        merge_one(a, o);
        if (o->at == o->n)
            next_pass(o);
    }
    return o->width >= o->n;
}

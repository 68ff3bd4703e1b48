/* SPDX-License-Identifier: MIT */
#include "criteria.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define TIME_MAX UINT64_C(253402300799)
/* Each segment's dictionary is asked for each text, and each word is sought in
 * each feature expression. */
#define TEXTS_MAX 16384
#define WORDS_MAX 64
#define MEMBERS_MAX 16384

__attribute__((format(printf, 2, 3)))
static bool refuse(struct jc_criteria *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(c->why, sizeof(c->why), format, args);
    va_end(args);
    for (char *p = c->why; *p; p++) /* it becomes a line of RESP */
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return false;
}

/* How much of a value an error quotes. */
static int quoted(struct jc_slice s)
{
    return s.n > 40 ? 40 : (int)s.n;
}

bool jc_parse_number(struct jc_slice text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (!text.n)
        return false;
    for (uint32_t i = 0; i < text.n; i++) {
        unsigned digit = (unsigned)(text.p[i] - '0');

        if (digit > 9 || v > (max - digit) / 10 || digit > max)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

/* Cuts the next element off text, at a comma outside brackets. */
static bool next_element(struct jc_slice *text, struct jc_slice *element)
{
    uint32_t i = 0;
    bool inside = false;

    if (!text->p)
        return false;
    while (i < text->n && (text->p[i] != ',' || inside)) {
        inside = text->p[i] == '[' || (inside && text->p[i] != ']');
        i++;
    }
    *element = (struct jc_slice){text->p, i};
    *text = i < text->n ? (struct jc_slice){text->p + i + 1, text->n - i - 1}
                        : (struct jc_slice){NULL, 0};
    return true;
}

/* n or lo-hi, with lo <= hi. */
static bool parse_range(struct jc_slice text, uint64_t max, uint64_t *lo,
                        uint64_t *hi)
{
    const char *dash = text.n ? memchr(text.p, '-', text.n) : NULL;
    struct jc_slice left = text, right = text;

    if (dash) {
        left.n = (uint32_t)(dash - text.p);
        right = (struct jc_slice){dash + 1, text.n - left.n - 1};
    }
    return jc_parse_number(left, max, lo) && jc_parse_number(right, max, hi) &&
           *lo <= *hi;
}

/* ---- one parser per kind of criterion ---- */

struct kind;
typedef bool parser(struct jc_criteria *c, const struct kind *k,
                    struct jc_slice value);

struct kind {
    const char *name;
    parser *parse;
    unsigned col;
    uint64_t shift; /* code = number + shift */
};

static bool parse_time(struct jc_criteria *c, const struct kind *k,
                       struct jc_slice value)
{
    bool is_start = !strcmp(k->name, "start");
    uint64_t t;

    if (is_start ? c->has_start : c->has_end)
        return refuse(c, "criterion '%s' was given twice", k->name);
    if (!jc_parse_number(value, TIME_MAX, &t))
        return refuse(c, "criterion '%s' wants epoch seconds, not '%.*s'",
                      k->name, quoted(value), value.p);
    if (is_start) {
        c->start = t;
        c->has_start = true;
    } else {
        c->end = t;
        c->has_end = true;
    }
    return true;
}

static bool parse_limit(struct jc_criteria *c, const struct kind *k,
                        struct jc_slice value)
{
    if (!jc_parse_number(value, UINT64_MAX - 1, &c->limit))
        return refuse(c, "criterion '%s' wants a number, not '%.*s'", k->name,
                      quoted(value), value.p);
    return true;
}

static bool parse_numbers(struct jc_criteria *c, const struct kind *k,
                          struct jc_slice value)
{
    struct jc_slice element, rest = value;
    uint64_t v;

    while (next_element(&rest, &element)) {
        if (!jc_parse_number(element, UINT32_MAX, &v))
            return refuse(c, "criterion '%s' wants numbers separated by "
                          "commas, not '%.*s'", k->name, quoted(value),
                          value.p);
        jc_ranges_add(&c->numbers[k->col], v + k->shift, v + k->shift);
    }
    return true;
}

static void add_string(struct jc_criteria *c, struct jc_strings *s,
                       struct jc_slice value, bool lower)
{
    char *copy = jc_host.alloc((size_t)value.n + 1);

    c->texts++;
    for (uint32_t i = 0; i < value.n; i++)
        copy[i] = lower ? jc_lower(value.p[i]) : value.p[i];
    if (s->n == s->room) {
        s->room = s->room ? s->room * 2 : 2;
        s->v = jc_host.resize(s->v, s->room * sizeof(*s->v));
    }
    s->v[s->n++] = (struct jc_slice){copy, value.n};
}

static bool parse_string(struct jc_criteria *c, const struct kind *k,
                         struct jc_slice value)
{
    bool words = k->col == JC_FIELD_FEATURES;

    if (c->texts == TEXTS_MAX || (words && c->strings[k->col].n == WORDS_MAX))
        return refuse(c, "criterion '%s' was given more than %d times",
                      k->name, words ? WORDS_MAX : TEXTS_MAX);
    add_string(c, &c->strings[k->col], value, words);
    return true;
}

static bool parse_viewer(struct jc_criteria *c, const struct kind *k,
                         struct jc_slice value)
{
    uint64_t uid;

    if (c->has_viewer || !jc_parse_number(value, UINT32_MAX, &uid))
        return refuse(c, "criterion '%s' wants one uid", k->name);
    c->viewer = (uint32_t)uid;
    c->has_viewer = true;
    return true;
}

static bool parse_viewer_account(struct jc_criteria *c, const struct kind *k,
                                 struct jc_slice value)
{
    if (!value.n || c->texts == TEXTS_MAX)
        return refuse(c, "criterion '%s' wants a name, at most %d times",
                      k->name, TEXTS_MAX);
    add_string(c, &c->viewer_accounts, value, false);
    return true;
}

/* Runs that were submitted, and started if they did, before a time: an earlier
 * report of one may say that it ended before then too. */
static bool parse_begun(struct jc_criteria *c, const struct kind *k,
                        struct jc_slice value)
{
    uint64_t t;

    if (c->numbers[JC_FIELD_SUBMIT].n ||
        !jc_parse_number(value, TIME_MAX, &t) || !t)
        return refuse(c, "criterion '%s' wants one time, epoch seconds",
                      k->name);
    jc_ranges_add(&c->numbers[JC_FIELD_SUBMIT], 0, t - 1);
    jc_ranges_add(&c->numbers[JC_FIELD_START], 0, t - 1);
    return true;
}

/* min-max, min-, -max or n; the column's codes are number + shift. */
static bool parse_bounds(struct jc_criteria *c, const struct kind *k,
                         struct jc_slice value)
{
    const char *dash = value.n ? memchr(value.p, '-', value.n) : NULL;
    uint64_t lo = 0, hi = JC_CODE_UNLIMITED;
    struct jc_slice left = value, right = value;

    if (dash) {
        left.n = (uint32_t)(dash - value.p);
        right = (struct jc_slice){dash + 1, value.n - left.n - 1};
    }
    if ((dash && !left.n && !right.n) ||
        ((!dash || left.n) && !jc_parse_number(left, UINT32_MAX, &lo)) ||
        ((!dash || right.n) && !jc_parse_number(right, UINT32_MAX, &hi)) ||
        hi < lo)
        return refuse(c, "criterion '%s' wants n, min-max, min- or -max, not "
                      "'%.*s'", k->name, quoted(value), value.p);
    /* minutes reach 2^32 - 3 and are stored 2 higher, below UNLIMITED */
    if (k->col == JC_FIELD_TIME_LIMIT && hi < JC_CODE_UNLIMITED &&
        hi + k->shift >= JC_CODE_UNLIMITED)
        hi = JC_CODE_UNLIMITED - 1 - k->shift;
    if (hi < JC_CODE_UNLIMITED || k->col != JC_FIELD_TIME_LIMIT)
        hi += k->shift;
    if (lo + k->shift <= hi)
        jc_ranges_add(&c->numbers[k->col], lo + k->shift, hi);
    else
        jc_ranges_add(&c->numbers[k->col], UINT64_MAX, UINT64_MAX);
    return true;
}

static bool parse_states(struct jc_criteria *c, const struct kind *k,
                         struct jc_slice value)
{
    struct jc_slice element, rest = value;
    uint64_t v;

    while (next_element(&rest, &element)) {
        if (!jc_parse_number(element, UINT32_MAX, &v))
            return refuse(c, "criterion '%s' wants state numbers separated by "
                          "commas, not '%.*s'", k->name, quoted(value),
                          value.p);
        if (v > 0xff)
            c->flags |= (uint32_t)v & ~UINT32_C(0xff);
        else
            c->state[v] = 1;
    }
    c->has_state = true;
    return true;
}

static bool parse_exit(struct jc_criteria *c, const struct kind *k,
                       struct jc_slice value)
{
    const char *colon = value.n ? memchr(value.p, ':', value.n) : NULL;
    uint64_t code, sig = 0;
    struct jc_slice left = value;

    if (colon) {
        struct jc_slice right;

        left.n = (uint32_t)(colon - value.p);
        right = (struct jc_slice){colon + 1, value.n - left.n - 1};
        if (!jc_parse_number(right, 127, &sig))
            left.n = 0;
    }
    if (!jc_parse_number(left, 255, &code))
        return refuse(c, "criterion '%s' wants code (to 255) or code:signal "
                      "(to 127), not '%.*s'", k->name, quoted(value), value.p);
    jc_ranges_add(&c->exit, code << 8 | sig, code << 8 | sig);
    return true;
}

static bool parse_nodes(struct jc_criteria *c, const struct kind *k,
                        struct jc_slice value)
{
    const char *why = jc_nodelist_add(&c->nodes, value);

    if (why)
        return refuse(c, "criterion '%s': %s", k->name, why);
    return true;
}

/* ---- job ids ---- */

static struct jc_member *add_member(struct jc_criteria *c, uint32_t id,
                                    bool het)
{
    struct jc_member *m = c->members ? &c->member[c->members - 1] : NULL;

    if (m && m->id == id && m->het == het)
        return m;
    if (c->members == MEMBERS_MAX)
        return NULL;
    if (!(c->members & (c->members - 1))) /* room doubles at powers of two */
        c->member = jc_host.resize(
            c->member, (c->members ? c->members * 2 : 1) * sizeof(*m));
    m = &c->member[c->members++];
    *m = (struct jc_member){.id = id, .het = het};
    return m;
}

/* What stands behind 100_: 5 or [1-3,7]. */
static bool parse_tasks(struct jc_ranges *of, struct jc_slice text)
{
    struct jc_slice element;
    uint64_t lo, hi;

    if (text.n >= 2 && text.p[0] == '[' && text.p[text.n - 1] == ']') {
        text.p++;
        text.n -= 2;
    }
    while (next_element(&text, &element)) {
        if (!parse_range(element, UINT32_MAX, &lo, &hi))
            return false;
        jc_ranges_add(of, lo, hi);
    }
    return true;
}

/* False, with a text in why if the reason is not the id's form. */
static bool parse_job(struct jc_criteria *c, struct jc_slice text)
{
    struct jc_member *m;
    uint64_t lo, hi;

    for (uint32_t i = 0; i < text.n; i++) {
        struct jc_slice id = {text.p, i};
        struct jc_slice rest = {text.p + i + 1, text.n - i - 1};

        if (text.p[i] != '_' && text.p[i] != '+')
            continue;
        if (!jc_parse_number(id, UINT32_MAX, &lo))
            return false;
        m = add_member(c, (uint32_t)lo, text.p[i] == '+');
        if (!m)
            return refuse(c, "criterion 'job' has tasks and parts of more "
                          "than %d jobs", MEMBERS_MAX);
        if (text.p[i] == '_')
            return parse_tasks(&m->of, rest);
        if (!jc_parse_number(rest, UINT32_MAX, &hi))
            return false;
        jc_ranges_add(&m->of, hi, hi);
        return true;
    }
    if (!parse_range(text, UINT32_MAX, &lo, &hi))
        return false;
    jc_ranges_add(&c->jobs, lo, hi);
    return true;
}

static bool parse_jobs(struct jc_criteria *c, const struct kind *k,
                       struct jc_slice value)
{
    struct jc_slice element, rest = value;

    while (next_element(&rest, &element))
        if (!parse_job(c, element))
            return c->why[0] ? false : refuse(
                c, "criterion '%s' wants ids such as 100, 100-109, "
                          "100_5, 100_[1-3,7] or 100+1, not '%.*s'", k->name,
                          quoted(element), element.p);
    c->has_job = true;
    return true;
}

/* ---- the table ---- */

static const struct kind kinds[] = {
    {"start", parse_time, 0, 0},
    {"end", parse_time, 0, 0},
    {"job", parse_jobs, 0, 0},
    {"uid", parse_numbers, JC_FIELD_UID, 0},
    {"gid", parse_numbers, JC_FIELD_GID, 0},
    {"user", parse_string, JC_FIELD_USER, 0},
    {"group", parse_string, JC_FIELD_GROUP, 0},
    {"account", parse_string, JC_FIELD_ACCOUNT, 0},
    {"cluster", parse_string, JC_FIELD_CLUSTER, 0},
    {"partition", parse_string, JC_FIELD_PARTITION, 0},
    {"qos", parse_string, JC_FIELD_QOS, 0},
    {"qos_id", parse_numbers, JC_FIELD_QOS_ID, 1},
    {"wckey", parse_string, JC_FIELD_WCKEY, 0},
    {"reservation", parse_string, JC_FIELD_RESERVATION, 0},
    {"name", parse_string, JC_FIELD_NAME, 0},
    {"state", parse_states, 0, 0},
    {"exit", parse_exit, 0, 0},
    {"nodes_count", parse_bounds, JC_FIELD_NODE_COUNT, 1},
    {"cpus_count", parse_bounds, JC_FIELD_CPU_COUNT, 1},
    {"time_limit", parse_bounds, JC_FIELD_TIME_LIMIT, 2},
    {"node", parse_nodes, JC_FIELD_NODES, 0},
    {"constraint", parse_string, JC_FIELD_FEATURES, 0},
    {"reason", parse_numbers, JC_COL_REASON_PREV, 0},
    {"limit", parse_limit, 0, 0},
    {"viewer", parse_viewer, 0, 0},
    {"viewer_account", parse_viewer_account, 0, 0},
    {"begun_before", parse_begun, 0, 0},
};

#define KINDS (sizeof(kinds) / sizeof(*kinds))

bool jc_criteria_add(struct jc_criteria *c, struct jc_slice name,
                     struct jc_slice value)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (strlen(kinds[i].name) != name.n ||
            strncasecmp(kinds[i].name, name.p, name.n))
            continue;
        return kinds[i].parse(c, &kinds[i], value);
    }
    return refuse(c, "unknown criterion '%.*s', expected one of start end job "
                  "uid gid user group account cluster partition qos qos_id "
                  "wckey reservation name state exit nodes_count cpus_count "
                  "time_limit node constraint reason limit viewer viewer_account "
                  "begun_before",
                  quoted(name), name.p);
}

static int by_id(const void *pa, const void *pb)
{
    const struct jc_member *a = pa, *b = pb;

    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return a->het - b->het;
}

/* 100_1,100_2,… is 100_[1,2,…]: rows look through ranges by halving. */
static void join_members(struct jc_criteria *c)
{
    struct jc_member *last = c->member;

    if (!c->members)
        return;
    qsort(c->member, c->members, sizeof(*c->member), by_id);
    for (size_t i = 1; i < c->members; i++) {
        struct jc_member *m = &c->member[i];

        if (by_id(last, m)) {
            *++last = *m;
            continue;
        }
        for (size_t k = 0; k < m->of.n; k++)
            jc_ranges_add(&last->of, m->of.v[k].lo, m->of.v[k].hi);
        jc_ranges_free(&m->of);
    }
    c->members = (size_t)(last - c->member) + 1;
    for (size_t i = 0; i < c->members; i++)
        jc_ranges_sort(&c->member[i].of);
}

bool jc_criteria_done(struct jc_criteria *c)
{
    if (c->has_start && c->has_end && c->end < c->start)
        return refuse(c, "the window ends (%llu) before it starts (%llu)",
                      (unsigned long long)c->end,
                      (unsigned long long)c->start);
    if (c->viewer_accounts.n && !c->has_viewer)
        return refuse(c, "viewer_account wants a viewer beside it");
    jc_ranges_sort(&c->jobs);
    jc_ranges_sort(&c->exit);
    jc_nodelist_done(&c->nodes);
    for (unsigned col = 0; col < JC_COLS; col++)
        jc_ranges_sort(&c->numbers[col]);
    join_members(c);
    return true;
}

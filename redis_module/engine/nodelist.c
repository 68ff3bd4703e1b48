/* SPDX-License-Identifier: MIT */
#include "nodelist.h"

#include <stdlib.h>

#define DIGITS_MAX 18    /* a longer number is part of the name */
#define NAME_MAX_BYTES 512
#define GROUPS_MAX 8     /* brackets in one name */
#define RUNS_MAX 16384   /* in the list that is asked for */
#define STEPS_MAX 131072 /* ranges and numbers gone through: in a job's list,
                            and in all the lists that are asked for */

/* Numbers lo..hi, written with at least width digits, inside a name: name holds
 * the prefix, prefix_n bytes, and behind it the suffix. No number: width 0. */
struct jc_noderun {
    char *name;
    uint32_t prefix_n, name_n;
    uint64_t lo, hi;
    unsigned width;
};

struct range {
    uint64_t lo, hi;
    unsigned width;
};

/* Called once per run; false stops. */
struct sink {
    bool (*take)(struct sink *sink, const char *name, uint32_t prefix_n,
                 uint32_t name_n, struct range r);
    struct jc_nodelist *list;
    const struct jc_nodelist *sought;
    uint64_t steps;
    bool found; /* a node of the list that is asked for, or any to ask for */
    const char *why;
};

/* Counts what a list makes us do, which may be far more than its length. */
static bool step(struct sink *sink)
{
    if (++sink->steps <= STEPS_MAX)
        return true;
    sink->why = "node lists name too many nodes one by one";
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static uint64_t power_of_ten(unsigned n)
{
    uint64_t p = 1;

    while (n-- > 0)
        p *= 10;
    return p;
}

static unsigned digits_of(uint64_t v)
{
    unsigned n = 1;

    while (v >= 10) {
        v /= 10;
        n++;
    }
    return n;
}

/* ---- one name without brackets, or with its last bracket as a range ---- */

/* Hands on name, split at its last run of digits. */
static bool give_plain(struct sink *sink, const char *name, uint32_t n)
{
    uint32_t end = n, start;
    char joined[NAME_MAX_BYTES];
    struct range r = {0, 0, 0};

    while (end > 0 && !is_digit(name[end - 1]))
        end--;
    for (start = end; start > 0 && is_digit(name[start - 1]); start--)
        if (end - start == DIGITS_MAX)
            break;
    if (start == end)
        return sink->take(sink, name, n, n, r);
    for (uint32_t i = start; i < end; i++)
        r.lo = r.lo * 10 + (uint64_t)(name[i] - '0');
    r.hi = r.lo;
    r.width = end - start;
    memcpy(joined, name, start);
    memcpy(joined + start, name + end, n - end);
    return sink->take(sink, joined, start, n - (end - start), r);
}

static bool give_number(struct sink *sink, const char *prefix, uint32_t pn,
                        const char *suffix, uint32_t sn, uint64_t v,
                        unsigned width)
{
    char name[NAME_MAX_BYTES], digits[24];
    unsigned dn = digits_of(v);

    if (dn < width)
        dn = width;
    if (pn + dn + sn > sizeof(name) || dn > sizeof(digits))
        return true;
    for (unsigned i = dn; i-- > 0; v /= 10)
        digits[i] = (char)('0' + v % 10);
    memcpy(name, prefix, pn);
    memcpy(name + pn, digits, dn);
    memcpy(name + pn + dn, suffix, sn);
    return give_plain(sink, name, pn + dn + sn);
}

/* A prefix that ends in digits is part of the number: n1[0-3] is n[10-13].
 * Ranges whose numbers differ in length are cut where they do. */
static bool give_range(struct sink *sink, const char *prefix, uint32_t pn,
                       const char *suffix, uint32_t sn, struct range r)
{
    char name[NAME_MAX_BYTES];
    uint32_t start = pn;
    uint64_t head = 0;

    for (uint32_t i = 0; i < sn; i++) {
        if (!is_digit(suffix[i]))
            continue;
        /* the suffix holds the last number: spell this one out */
        for (uint64_t v = r.lo; v <= r.hi; v++)
            if (!step(sink) ||
                !give_number(sink, prefix, pn, suffix, sn, v, r.width))
                return false;
        return true;
    }
    memcpy(name, prefix, pn);
    while (start > 0 && is_digit(prefix[start - 1]) && pn - start < DIGITS_MAX)
        start--;
    if (start == pn) {
        memcpy(name + pn, suffix, sn);
        return sink->take(sink, name, pn, pn + sn, r);
    }
    for (uint32_t i = start; i < pn; i++)
        head = head * 10 + (uint64_t)(prefix[i] - '0');
    memcpy(name + start, suffix, sn);
    while (r.lo <= r.hi) {
        unsigned len = digits_of(r.lo) < r.width ? r.width : digits_of(r.lo);
        uint64_t last = len < 19 ? power_of_ten(len) - 1 : UINT64_MAX;
        struct range part = {r.lo, r.hi < last ? r.hi : last, 0};
        uint64_t next = part.hi + 1;

        if (len + (pn - start) > DIGITS_MAX)
            return true; /* no such number can be asked for */
        part.lo += head * power_of_ten(len);
        part.hi += head * power_of_ten(len);
        part.width = len + (pn - start);
        if (!sink->take(sink, name, start, start + sn, part))
            return false;
        r.lo = next;
    }
    return true;
}

/* ---- one element of a list ---- */

struct group {
    const char *p; /* between the brackets */
    uint32_t n;
    const char *before; /* literal in front of it */
    uint32_t before_n;
};

/* The next range of a bracket's text; false at the end or at a bad one. */
static bool next_range(struct group *g, uint32_t *at, struct range *r,
                       const char **why)
{
    const char *p = g->p;
    uint32_t start = *at, i = start;

    if (start >= g->n)
        return false;
    *r = (struct range){0, 0, 0};
    for (; i < g->n && is_digit(p[i]); i++)
        r->lo = i - start < DIGITS_MAX ? r->lo * 10 + (uint64_t)(p[i] - '0')
                                       : 0;
    r->width = i - start;
    r->hi = r->lo;
    if (i < g->n && p[i] == '-' && r->width) {
        uint32_t from = ++i;

        for (r->hi = 0; i < g->n && is_digit(p[i]); i++)
            r->hi = i - from < DIGITS_MAX
                        ? r->hi * 10 + (uint64_t)(p[i] - '0')
                        : 0;
        if (i == from || i - from > DIGITS_MAX)
            r->width = 0;
    }
    if (!r->width || r->width > DIGITS_MAX || r->hi < r->lo ||
        (i < g->n && p[i] != ',')) {
        *why = "brackets in a node list hold something else than numbers and "
               "rising ranges";
        return false;
    }
    *at = i + 1;
    return true;
}

static bool give_groups(struct sink *sink, struct group *g, unsigned n,
                        const char *tail, uint32_t tail_n, char *name,
                        uint32_t len)
{
    uint32_t at = 0;
    struct range r;

    if (len + g->before_n + tail_n > NAME_MAX_BYTES - 40) {
        sink->why = "a node name is longer than 512 bytes";
        return false;
    }
    memcpy(name + len, g->before, g->before_n);
    len += g->before_n;
    while (next_range(g, &at, &r, &sink->why)) {
        if (!step(sink))
            return false;
        if (n == 1) {
            if (!give_range(sink, name, len, tail, tail_n, r))
                return false;
            continue;
        }
        for (uint64_t v = r.lo; v <= r.hi; v++) {
            unsigned dn = digits_of(v) < r.width ? r.width : digits_of(v);
            uint64_t rest = v;

            if (!step(sink))
                return false;
            if (len + dn > NAME_MAX_BYTES - 40)
                return false;
            for (unsigned i = dn; i-- > 0; rest /= 10)
                name[len + i] = (char)('0' + rest % 10);
            if (!give_groups(sink, g + 1, n - 1, tail, tail_n, name,
                             len + dn))
                return false;
        }
    }
    return !sink->why;
}

/* p[0 .. n): a name with any number of brackets. */
static bool give_element(struct sink *sink, const char *p, uint32_t n)
{
    struct group g[GROUPS_MAX];
    unsigned groups = 0;
    const char *literal = p, *end = p + n;
    char name[NAME_MAX_BYTES];

    for (const char *c = p; c < end; c++) {
        const char *close;

        if (*c == ']')
            break;
        if (*c != '[')
            continue;
        close = memchr(c, ']', (size_t)(end - c));
        if (!close || close == c + 1 || groups == GROUPS_MAX) {
            sink->why = "a bracket in a node list is not closed, empty, or "
                        "one of more than 8";
            return false;
        }
        g[groups++] = (struct group){c + 1, (uint32_t)(close - c - 1), literal,
                                     (uint32_t)(c - literal)};
        literal = c = close;
        literal++;
    }
    if (!groups) {
        if (memchr(p, ']', n) || n > NAME_MAX_BYTES) {
            sink->why = "a node name holds a ] or is longer than 512 bytes";
            return false;
        }
        return give_plain(sink, p, n);
    }
    if (memchr(literal, ']', (size_t)(end - literal))) {
        sink->why = "a node list closes a bracket it did not open";
        return false;
    }
    return give_groups(sink, g, groups, literal, (uint32_t)(end - literal),
                       name, 0);
}

/* Cuts at the commas outside brackets. */
static bool give_list(struct sink *sink, struct jc_slice text)
{
    uint32_t start = 0;
    bool inside = false;

    for (uint32_t i = 0; i <= text.n; i++) {
        if (i < text.n && text.p[i] == '[')
            inside = true;
        else if (i < text.n && text.p[i] == ']')
            inside = false;
        if (i < text.n && (text.p[i] != ',' || inside))
            continue;
        if (i > start && !give_element(sink, text.p + start, i - start))
            return false;
        start = i + 1;
    }
    return true;
}

/* ---- the list asked for ---- */

static int compare_names(const char *a, uint32_t ap, uint32_t an,
                         const char *b, uint32_t bp, uint32_t bn)
{
    if (ap != bp)
        return ap < bp ? -1 : 1;
    if (an != bn)
        return an < bn ? -1 : 1;
    return memcmp(a, b, an);
}

static int compare_runs(const void *pa, const void *pb)
{
    const struct jc_noderun *a = pa, *b = pb;
    int c = compare_names(a->name, a->prefix_n, a->name_n, b->name,
                          b->prefix_n, b->name_n);

    if (c)
        return c;
    if (a->width != b->width)
        return a->width < b->width ? -1 : 1;
    return (a->lo > b->lo) - (a->lo < b->lo);
}

static bool collect(struct sink *sink, const char *name, uint32_t prefix_n,
                    uint32_t name_n, struct range r)
{
    struct jc_nodelist *l = sink->list;
    struct jc_noderun *run = l->runs ? &l->run[l->runs - 1] : NULL;

    sink->found = true;
    if (run && r.width && run->width == r.width && run->hi + 1 == r.lo &&
        !compare_names(run->name, run->prefix_n, run->name_n, name, prefix_n,
                       name_n)) { /* n1,n2,n3 */
        run->hi = r.hi;
        return true;
    }
    if (l->runs == RUNS_MAX) {
        sink->why = "a node list has more than 16384 parts";
        return false;
    }
    if (l->runs == l->room) {
        l->room = l->room ? l->room * 2 : 4;
        l->run = jc_host.resize(l->run, l->room * sizeof(*l->run));
    }
    run = &l->run[l->runs++];
    *run = (struct jc_noderun){jc_host.alloc(name_n + 1), prefix_n, name_n,
                               r.lo, r.hi, r.width};
    memcpy(run->name, name, name_n);
    return true;
}

const char *jc_nodelist_add(struct jc_nodelist *list, struct jc_slice text)
{
    struct sink sink = {.take = collect, .list = list, .steps = list->steps};
    bool whole = give_list(&sink, text);

    list->steps = sink.steps;
    if (whole && sink.found)
        return NULL;
    return sink.why ? sink.why : "a node list names no node";
}

static bool same_numbers(const struct jc_noderun *a, const struct jc_noderun *b)
{
    return a->width == b->width &&
           !compare_names(a->name, a->prefix_n, a->name_n, b->name,
                          b->prefix_n, b->name_n);
}

/* Joins what overlaps, so that a search by number finds its place. */
void jc_nodelist_done(struct jc_nodelist *list)
{
    struct jc_noderun *last = list->run;

    if (!list->runs)
        return;
    qsort(list->run, list->runs, sizeof(*list->run), compare_runs);
    list->widths = 1u << last->width;
    for (size_t i = 1; i < list->runs; i++) {
        struct jc_noderun *run = &list->run[i];

        list->widths |= 1u << run->width;
        if (!same_numbers(last, run) || run->lo > last->hi + 1) {
            *++last = *run;
            continue;
        }
        if (run->hi > last->hi)
            last->hi = run->hi;
        jc_host.free(run->name);
    }
    list->runs = (size_t)(last - list->run) + 1;
}

void jc_nodelist_free(struct jc_nodelist *list)
{
    for (size_t i = 0; i < list->runs; i++)
        jc_host.free(list->run[i].name);
    if (list->run)
        jc_host.free(list->run);
    *list = (struct jc_nodelist){0};
}

/* Is one of the numbers lo..hi, of a name and a width, in the list? */
static bool have(const struct jc_nodelist *l, const char *name,
                 uint32_t prefix_n, uint32_t name_n, struct range r)
{
    size_t from = 0, to = l->runs;

    while (from < to) { /* the first run that does not end before r.lo */
        size_t mid = from + (to - from) / 2;
        const struct jc_noderun *run = &l->run[mid];
        int c = compare_names(run->name, run->prefix_n, run->name_n, name,
                              prefix_n, name_n);

        if (!c)
            c = (run->width > r.width) - (run->width < r.width);
        if (c < 0 || (!c && run->hi < r.lo))
            from = mid + 1;
        else
            to = mid;
    }
    return from < l->runs && l->run[from].width == r.width &&
           l->run[from].lo <= r.hi &&
           !compare_names(l->run[from].name, l->run[from].prefix_n,
                          l->run[from].name_n, name, prefix_n, name_n);
}

/* A search for each width there is, never a walk along the list, which is as
 * long as whoever asks likes. A number is written alike with two widths when
 * it fills the wider one. */
static bool meet(struct sink *sink, const char *name, uint32_t prefix_n,
                 uint32_t name_n, struct range r)
{
    const struct jc_nodelist *l = sink->sought;

    if (!step(sink))
        return false;
    for (unsigned width = 0; width <= DIGITS_MAX && !sink->found; width++) {
        struct range part = {r.lo, r.hi, width};
        unsigned wide = width > r.width ? width : r.width;

        if (!(l->widths >> width & 1) || !width != !r.width)
            continue;
        if (width != r.width && part.lo < power_of_ten(wide - 1))
            part.lo = power_of_ten(wide - 1);
        if (part.lo <= part.hi)
            sink->found = have(l, name, prefix_n, name_n, part);
    }
    return !sink->found;
}

size_t jc_nodelist_bytes(const struct jc_nodelist *list)
{
    size_t bytes = jc_size_of(list->run);

    for (size_t i = 0; i < list->runs; i++)
        bytes += jc_size_of(list->run[i].name);
    return bytes;
}

bool jc_nodelist_overlaps(const struct jc_nodelist *list, struct jc_slice text,
                          uint64_t *work)
{
    struct sink sink = {.take = meet, .sought = list};

    give_list(&sink, text);
    *work += text.n + 64 * sink.steps;
    return sink.found;
}

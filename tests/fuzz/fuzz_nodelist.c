/* SPDX-License-Identifier: MIT */
/*
 * Two node lists, one per line: the first is asked for, the second is a job's.
 * Sharing a node is mutual, a list shares its nodes with itself, and short
 * lists give what writing every name out gives.
 */
#include "fuzz.h"
#include "nodelist.h"

static struct jc_slice slice(struct input in)
{
    return (struct jc_slice){(const char *)in.p, (uint32_t)in.n};
}

static bool asks(struct jc_slice list, struct jc_slice job, bool *valid)
{
    struct jc_nodelist l = {0};
    uint64_t work = 0;
    bool found;

    *valid = !jc_nodelist_add(&l, list);
    jc_nodelist_done(&l);
    found = jc_nodelist_overlaps(&l, job, &work);
    jc_nodelist_free(&l);
    return found;
}

/* ---- the model: every name written out ---- */

#define NAMES_MAX 4096
#define NAME_BYTES 256

struct names {
    char (*name)[NAME_BYTES];
    size_t n;
    bool too_many;
};

static void expand(struct names *out, char name[NAME_BYTES], size_t len,
                   struct input in);

/* The ranges of a bracket, each followed by the rest of the name. */
static void expand_bracket(struct names *out, char name[NAME_BYTES],
                           size_t len, struct input ranges, struct input rest)
{
    while (ranges.n && !out->too_many) {
        struct input hi = take_until(&ranges, ',');
        struct input lo = take_until(&hi, '-');
        unsigned long from, to;
        char text[8];

        snprintf(text, sizeof(text), "%.*s", (int)lo.n, (const char *)lo.p);
        from = to = strtoul(text, NULL, 10);
        if (hi.n) {
            snprintf(text, sizeof(text), "%.*s", (int)hi.n,
                     (const char *)hi.p);
            to = strtoul(text, NULL, 10);
        }
        for (; from <= to && !out->too_many; from++) {
            int n = snprintf(name + len, NAME_BYTES - len, "%0*lu", (int)lo.n,
                             from);

            expand(out, name, len + (size_t)n, rest);
        }
    }
}

static void expand(struct names *out, char name[NAME_BYTES], size_t len,
                   struct input in)
{
    while (in.n && in.p[0] != '[')
        name[len++] = (char)take_byte(&in);
    if (in.n) {
        struct input ranges;

        take_byte(&in);
        ranges = take_until(&in, ']');
        expand_bracket(out, name, len, ranges, in);
        return;
    }
    if (out->n == NAMES_MAX) {
        out->too_many = true;
        return;
    }
    memset(out->name[out->n], 0, NAME_BYTES);
    memcpy(out->name[out->n++], name, len);
}

/* The elements of a list, cut at commas outside brackets. */
static void expand_list(struct names *out, struct jc_slice list)
{
    struct input in = {(const uint8_t *)list.p, list.n};

    out->n = 0;
    out->too_many = false;
    while (in.n) {
        struct input element = {in.p, 0};
        char name[NAME_BYTES];
        bool inside = false;

        while (in.n && (in.p[0] != ',' || inside)) {
            inside = in.p[0] == '[' || (inside && in.p[0] != ']');
            take_byte(&in);
            element.n++;
        }
        if (in.n)
            take_byte(&in);
        if (element.n)
            expand(out, name, 0, element);
    }
}

static int by_name(const void *a, const void *b)
{
    return memcmp(a, b, NAME_BYTES);
}

/* Do the lists share a name? *knows is false when there are too many. */
static bool share(struct jc_slice a, struct jc_slice b, bool *knows)
{
    static char names[2][NAMES_MAX][NAME_BYTES];
    struct names left = {.name = names[0]}, right = {.name = names[1]};

    expand_list(&left, a);
    expand_list(&right, b);
    *knows = !left.too_many && !right.too_many;
    qsort(left.name, left.n, NAME_BYTES, by_name);
    for (size_t i = 0; i < right.n; i++)
        if (bsearch(right.name[i], left.name, left.n, NAME_BYTES, by_name))
            return true;
    return false;
}

/* Few and short enough to be written out, and for the parser not to give up. */
static bool is_short(struct jc_slice list)
{
    unsigned brackets = 0, digits = 0, longest = 0;

    for (uint32_t i = 0; i < list.n; i++) {
        if (list.p[i] == ',')
            brackets = 0;
        brackets += list.p[i] == '[';
        digits = list.p[i] >= '0' && list.p[i] <= '9' ? digits + 1 : 0;
        longest = digits > longest ? digits : longest;
        if (brackets > 2 || longest > 3 || !list.p[i])
            return false;
    }
    return list.n < 200;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct jc_slice a = slice(take_until(&in, '\n')), b = slice(in);
    bool a_valid, b_valid, self_valid, knows;
    bool found = asks(a, b, &a_valid), mutual = asks(b, a, &b_valid);

    if (!is_short(a) || !is_short(b))
        return 0;
    if (a_valid)
        MUST(asks(a, a, &self_valid));
    if (a_valid && b_valid) {
        MUST(found == mutual);
        mutual = share(a, b, &knows);
        MUST(!knows || found == mutual);
    }
    return 0;
}

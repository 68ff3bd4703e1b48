/* SPDX-License-Identifier: MIT */
/*
 * Two node lists, one per line: the first is asked for, the second is a job's.
 * Sharing a node is mutual, a list shares its nodes with itself, and short
 * lists agree with writing every name out.
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
    bool found;

    *valid = !jc_nodelist_add(&l, list);
    jc_nodelist_done(&l);
    found = jc_nodelist_overlaps(&l, job);
    jc_nodelist_free(&l);
    return found;
}

/* Brackets multiply; past this the parser may give up on a job's list. */
static bool is_short(struct jc_slice list)
{
    unsigned brackets = 0, digits = 0, longest = 0;

    for (uint32_t i = 0; i < list.n; i++) {
        brackets += list.p[i] == '[';
        digits = list.p[i] >= '0' && list.p[i] <= '9' ? digits + 1 : 0;
        longest = digits > longest ? digits : longest;
    }
    return list.n < 200 && brackets <= 2 && longest <= 3;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct jc_slice a = slice(take_until(&in, '\n')), b = slice(in);
    bool a_valid, b_valid, self_valid;
    bool found = asks(a, b, &a_valid), mutual = asks(b, a, &b_valid);

    if (!is_short(a) || !is_short(b))
        return 0;
    if (a_valid)
        MUST(asks(a, a, &self_valid));
    if (a_valid && b_valid)
        MUST(found == mutual);
    return 0;
}

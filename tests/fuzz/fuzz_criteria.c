/* SPDX-License-Identifier: MIT */
/*
 * Criteria, one 'name value' per line, asked of one segment of many jobs and
 * of segments that hold one of these jobs each. Skipping segments and blocks
 * by dictionaries, indexes and smallest and largest values must change nothing.
 */
#include "crowd.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    crowd_make();
    return 0;
}

static struct jc_slice slice(struct input in)
{
    return (struct jc_slice){(const char *)in.p, (uint32_t)in.n};
}

/* Fills a query from the input; false when it is refused, with a reason. */
static bool fill(struct jc_scan *q, struct input in)
{
    jc_scan_init(q);
    while (in.n) {
        struct input line = take_until(&in, '\n');
        struct input name = take_until(&line, ' ');

        if (!jc_criteria_add(&q->criteria, slice(name), slice(line)))
            return false;
    }
    return jc_criteria_done(&q->criteria);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool which[CROWD] = {false};
    struct jc_scan q;
    unsigned given;

    if (!fill(&q, (struct input){data, size})) {
        MUST(q.criteria.why[0]);
        for (const char *p = q.criteria.why; *p; p++)
            MUST((unsigned char)*p >= ' ' && *p != 0x7f);
        jc_scan_free(&q);
        return 0;
    }
    jc_scan_start(&q);
    given = crowd_ask(&q, crowd_all, which);
    for (unsigned i = 0; i < CROWD; i++) {
        unsigned one = crowd_ask(&q, crowd_alone[i], NULL);

        MUST(one == which[i]);
        given -= one;
    }
    MUST(!given);
    jc_scan_free(&q);
    return 0;
}

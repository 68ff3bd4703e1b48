/* SPDX-License-Identifier: MIT */
/*
 * Criteria, one 'name value' per line, asked of one segment of many jobs and
 * of segments that hold one of these jobs each. Skipping segments and blocks
 * by dictionaries, indexes and smallest and largest values must change nothing.
 */
#include "jobs.h"
#include "scan.h"

#define JOBS 40

static struct jc_segment *all, *alone[JOBS];
static struct jc_record job[JOBS];
static uint8_t extra[JOBS][64];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    uint64_t seed = 1;

    (void)argc;
    (void)argv;
    all = jc_segment_new(FUZZ_DAY);
    for (unsigned i = 0; i < JOBS;) {
        static uint8_t bytes[JOBS][256]; /* strings stay in there */

        for (unsigned b = 0; b < sizeof(bytes[i]); b++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            bytes[i][b] = (uint8_t)(seed >> 56) % 250;
        }
        bytes[i][0] = (uint8_t)(i << 5 | 7);
        job[i] = job_from(&(struct input){bytes[i], sizeof(bytes[i])},
                          extra[i]);
        job[i].number[JC_FIELD_STATE].value %= 12;
        if (jc_segment_put(all, &job[i], 0) != JC_PUT_NEW)
            continue;
        alone[i] = jc_segment_new(FUZZ_DAY);
        MUST(jc_segment_put(alone[i], &job[i], 0) == JC_PUT_NEW);
        if (i % 2)
            jc_segment_seal(alone[i]);
        i++;
    }
    return 0;
}

/* The number of jobs that s has for q; which[] says which they are. */
static unsigned ask(struct jc_scan *q, const struct jc_segment *s,
                    bool which[JOBS])
{
    struct jc_place place;
    struct jc_record rec;
    unsigned given = 0;
    uint64_t ttl;

    q->work = 0;
    q->inside = false;
    if (!jc_scan_enter(q, s))
        return 0;
    while (jc_scan_next(q, s, 0, UINT64_MAX, &place) == JC_STEP_ROW) {
        jc_segment_get(s, place, &rec, &ttl);
        for (unsigned i = 0; i < JOBS; i++)
            if (same_job(&rec, &job[i]) && which) {
                MUST(!which[i]);
                which[i] = true;
            }
        given++;
    }
    return given;
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
    bool which[JOBS] = {false};
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
    given = ask(&q, all, which);
    for (unsigned i = 0; i < JOBS; i++) {
        unsigned one = ask(&q, alone[i], NULL);

        MUST(one == which[i]);
        given -= one;
    }
    MUST(!given);
    jc_scan_free(&q);
    return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * criteria_probe.so: the module's reading of criteria, for tests in Python that
 * hold the daemon's reading against it (tests/fuzz/crowd.py).
 */
#include "crowd.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT void probe_make(void);
EXPORT unsigned probe_jobs(void);
EXPORT uint32_t probe_uid(unsigned job);
EXPORT uint32_t probe_id(unsigned job);
EXPORT const char *probe_account(unsigned job, uint32_t *n);
EXPORT bool probe_ask(const uint8_t *text, size_t n, bool which[CROWD],
                      char why[320]);

void probe_make(void)
{
    crowd_make();
}

unsigned probe_jobs(void)
{
    return CROWD;
}

uint32_t probe_uid(unsigned job)
{
    return (uint32_t)crowd_job[job].number[JC_FIELD_UID].value;
}

uint32_t probe_id(unsigned job)
{
    return (uint32_t)crowd_job[job].number[JC_FIELD_JOB_ID].value;
}

/* NULL when the job has none. */
const char *probe_account(unsigned job, uint32_t *n)
{
    struct jc_slice account = crowd_job[job].string[JC_FIELD_ACCOUNT];

    *n = account.n;
    return account.p;
}

static struct jc_slice next_text(struct input *in)
{
    struct input text = take_bytes(in, take_u32(in));

    return (struct jc_slice){(const char *)text.p, (uint32_t)text.n};
}

/*
 * Which jobs the criteria want: names and values in turn, each behind its
 * length in 4 bytes. False with a reason when they make no sense.
 */
bool probe_ask(const uint8_t *text, size_t n, bool which[CROWD], char why[320])
{
    struct input in = {text, n};
    struct jc_scan q;
    bool good = true;

    jc_scan_init(&q);
    while (good && in.n) {
        struct jc_slice name = next_text(&in), value = next_text(&in);

        good = jc_criteria_add(&q.criteria, name, value);
    }
    if (good && jc_criteria_done(&q.criteria)) {
        jc_scan_start(&q);
        crowd_ask(&q, crowd_all, which);
    } else {
        good = false;
        memcpy(why, q.criteria.why, sizeof(q.criteria.why));
    }
    jc_scan_free(&q);
    return good;
}

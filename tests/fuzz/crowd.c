/* SPDX-License-Identifier: MIT */
#include "crowd.h"

struct jc_record crowd_job[CROWD];
struct jc_segment *crowd_all, *crowd_alone[CROWD];

static uint8_t extra[CROWD][64];

void crowd_make(void)
{
    uint64_t seed = 1;

    crowd_all = jc_segment_new(FUZZ_DAY);
    for (unsigned i = 0; i < CROWD;) {
        static uint8_t bytes[CROWD][256]; /* strings stay in there */

        for (unsigned b = 0; b < sizeof(bytes[i]); b++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            bytes[i][b] = (uint8_t)(seed >> 56) % 250;
        }
        bytes[i][0] = (uint8_t)(i << 5 | 7);
        crowd_job[i] = job_from(&(struct input){bytes[i], sizeof(bytes[i])},
                                extra[i]);
        crowd_job[i].number[JC_FIELD_STATE].value %= 12;
        if (jc_segment_put(crowd_all, &crowd_job[i], 0) != JC_PUT_NEW)
            continue;
        crowd_alone[i] = jc_segment_new(FUZZ_DAY);
        MUST(jc_segment_put(crowd_alone[i], &crowd_job[i], 0) == JC_PUT_NEW);
        if (i % 2)
            jc_segment_seal(crowd_alone[i]);
        i++;
    }
}

unsigned crowd_ask(struct jc_scan *q, const struct jc_segment *s,
                   bool which[CROWD])
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
        for (unsigned i = 0; i < CROWD; i++)
            if (which && same_job(&rec, &crowd_job[i])) {
                MUST(!which[i]);
                which[i] = true;
            }
        given++;
    }
    return given;
}

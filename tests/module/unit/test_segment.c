/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "scan.h"
#include "unit.h"

#define DAY 19000
#define NOON ((uint64_t)DAY * JC_DAY_SECONDS + 43200)

/* A record of job id that ended then; strings stay with the caller. */
static struct jc_record job(uint32_t id, uint64_t end)
{
    struct jc_record rec;

    memset(&rec, 0, sizeof(rec));
    for (unsigned i = 0; i < JC_FIELD_COUNT; i++)
        rec.number[i].known = jc_fields[i].kind == JC_KIND_NUMBER &&
                              jc_fields[i].required;
    rec.number[JC_FIELD_JOB_ID].value = id;
    rec.number[JC_FIELD_SUBMIT].value = NOON - 600;
    rec.number[JC_FIELD_ELIGIBLE].value = NOON - 600;
    rec.number[JC_FIELD_START].value = NOON - 500;
    rec.number[JC_FIELD_END].value = end;
    rec.number[JC_FIELD_STATE].value = 3;
    rec.string[JC_FIELD_USER] = SLICE("alice");
    rec.string[JC_FIELD_CLUSTER] = SLICE("c");
    return rec;
}

/* Rows come in order of completion however they arrive, and each once. */
static void test_order(void **state)
{
    struct jc_segment *s = jc_segment_new(DAY);
    enum { N = 20000 };
    uint64_t last_end = 0, last_id = 0, seen = 0;

    (void)state;
    for (unsigned round = 0; round < 2; round++)
        for (uint32_t i = 0; i < N; i++) {
            uint32_t id = (i * 7919u) % N + 1;
            struct jc_record rec = job(id, NOON + id / 3);

            assert_int_equal(jc_segment_put(s, &rec, 0),
                             round ? JC_PUT_KNOWN : JC_PUT_NEW);
        }
    assert_int_equal(s->rows, N);
    for (uint32_t b = 0; b < s->blocks; b++)
        for (uint32_t r = 0; r < s->order[b]->rows; r++, seen++) {
            uint64_t end = jc_block_code(s->order[b], r, JC_FIELD_END);
            uint64_t id = jc_block_code(s->order[b], r, JC_FIELD_JOB_ID);

            assert_true(end > last_end || (end == last_end && id > last_id));
            last_end = end;
            last_id = id;
        }
    assert_int_equal(seen, N);
    jc_segment_free(s);
}

static void test_replace(void **state)
{
    struct jc_segment *s = jc_segment_new(DAY);
    struct jc_record first = job(1, NOON), later = job(1, NOON + 5), got;
    struct jc_place place;
    uint64_t ttl;

    (void)state;
    later.string[JC_FIELD_NAME] = SLICE("later");
    assert_int_equal(jc_segment_put(s, &first, 100), JC_PUT_NEW);
    assert_int_equal(jc_segment_put(s, &later, 50), JC_PUT_REPLACED);
    assert_int_equal(jc_segment_put(s, &first, 0), JC_PUT_KNOWN);
    assert_int_equal(jc_segment_put(s, &later, 50), JC_PUT_KNOWN);
    assert_int_equal(s->rows, 1);
    assert_true(jc_segment_find_run(s, &first, &place));
    jc_segment_get(s, place, &got, &ttl);
    assert_int_equal(ttl, 100); /* never shortened */
    assert_int_equal(got.number[JC_FIELD_END].value, NOON + 5);
    assert_int_equal(got.string[JC_FIELD_NAME].n, 5);
    first.number[JC_FIELD_RESTART_COUNT].value = 1; /* another run */
    assert_int_equal(jc_segment_put(s, &first, 0), JC_PUT_NEW);
    first.string[JC_FIELD_CLUSTER] = SLICE("other");
    assert_int_equal(jc_segment_put(s, &first, 0), JC_PUT_NEW);
    first.string[JC_FIELD_CLUSTER] = (struct jc_slice){NULL, 0};
    assert_int_equal(jc_segment_put(s, &first, 0), JC_PUT_NEW);
    first.string[JC_FIELD_CLUSTER] = SLICE(""); /* absent is not empty */
    assert_int_equal(jc_segment_put(s, &first, 0), JC_PUT_NEW);
    assert_int_equal(s->rows, 5);
    jc_segment_free(s);
}

/* A scan that is interrupted by late records gives each row once. */
static void test_scan_survives(void **state)
{
    struct jc_segment *s = jc_segment_new(DAY);
    static uint8_t seen[20001];
    struct jc_scan q;
    struct jc_place place;
    unsigned given = 0;

    (void)state;
    for (uint32_t i = 1; i <= 10000; i++) {
        struct jc_record rec = job(i, NOON + i);

        jc_segment_put(s, &rec, 0);
    }
    jc_scan_init(&q);
    assert_true(jc_criteria_add(&q.criteria, SLICE("user"), SLICE("alice")));
    assert_true(jc_criteria_done(&q.criteria));
    jc_scan_start(&q);
    for (;;) {
        assert_true(jc_scan_enter(&q, s));
        if (jc_scan_next(&q, s, 0, UINT64_MAX, &place) != JC_STEP_ROW)
            break;
        uint64_t id = jc_block_code(s->order[place.block], place.row,
                                    JC_FIELD_JOB_ID);

        assert_int_equal(seen[id]++, 0);
        if (++given % 3 == 0) { /* late: before the place of the scan */
            struct jc_record rec = job(10000 + given, NOON + given / 6);

            jc_segment_put(s, &rec, 0);
        }
    }
    for (unsigned i = 1; i <= 10000; i++)
        assert_int_equal(seen[i], 1);
    jc_scan_free(&q);
    jc_segment_free(s);
}

/* Strings judged one by one are work too: a block of them takes many calls. */
static void test_judging_pauses(void **state)
{
    enum { N = 1000, WORDS = 40 };
    struct jc_segment *s = jc_segment_new(DAY);
    static char features[N][1024];
    struct jc_place place;
    struct jc_scan q;
    unsigned calls = 0;
    enum jc_step step;

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        struct jc_record rec = job(i + 1, NOON + i);

        memset(features[i], 'X', sizeof(features[i]));
        snprintf(features[i], sizeof(features[i]), "%u", i);
        features[i][strlen(features[i])] = '&';
        rec.string[JC_FIELD_FEATURES] =
            (struct jc_slice){features[i], sizeof(features[i])};
        jc_segment_put(s, &rec, 0);
    }
    jc_scan_init(&q);
    for (unsigned i = 0; i < WORDS; i++)
        assert_true(jc_criteria_add(&q.criteria, SLICE("constraint"),
                                    SLICE("xx")));
    assert_true(jc_criteria_add(&q.criteria, SLICE("constraint"),
                                SLICE("999&")));
    assert_true(jc_criteria_done(&q.criteria));
    jc_scan_start(&q);
    do {
        uint64_t before = q.work;

        calls++;
        assert_true(jc_scan_enter(&q, s));
        step = jc_scan_next(&q, s, 0, q.work + 65536, &place);
        assert_true(q.work - before < 3 * 65536);
    } while (step == JC_STEP_PAUSE);
    assert_int_equal(step, JC_STEP_ROW);
    assert_int_equal(jc_block_code(s->order[place.block], place.row,
                                   JC_FIELD_JOB_ID), N);
    assert_true(calls > N * WORDS * 1024 / 65536 / 3);
    jc_scan_free(&q);
    jc_segment_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_scan_survives),
        cmocka_unit_test(test_judging_pauses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

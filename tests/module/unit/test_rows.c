/* SPDX-License-Identifier: MIT */
/* Rows written many at a time, and rows that came after their block was sealed. */
#include <stdio.h>
#include <stdlib.h>

#include "rows.h"
#include "unit.h"

#define DAY 19000
#define NOON ((uint64_t)DAY * JC_DAY_SECONDS + 43200)
#define TEXT_MAX 70000

static char text[TEXT_MAX];

/* Strings of every length that a head is written differently for. */
static struct jc_slice string_of(unsigned n)
{
    static const uint32_t lengths[] = {1, 7, 8, 16, 17, 31, 32, 70, 255, 256};

    return (struct jc_slice){text + n % 1000, lengths[n % 10]};
}

/* Number n of records that differ in all fields but a few, some of them nil. */
static struct jc_record job(unsigned n)
{
    static const uint64_t wide[] = {0, 1, 127, 128, 255, 256, 65535, 65536,
                                    4294967294};
    static const char extra[] = "\x81\xa1""a\x05";
    struct jc_record rec;

    memset(&rec, 0, sizeof(rec));
    for (unsigned i = 0; i < JC_FIELD_COUNT; i++) {
        uint64_t v = wide[(n + i) % 9];

        if (jc_fields[i].kind == JC_KIND_NUMBER)
            rec.number[i] = (struct jc_number){
                v > jc_fields[i].max ? jc_fields[i].max : v, true};
        if (jc_fields[i].kind == JC_KIND_NUMBER && !jc_fields[i].required)
            rec.number[i].known = (n + i) % 3 > 0;
        if (!rec.number[i].known)
            rec.number[i].value = 0;
        if (jc_fields[i].kind == JC_KIND_STRING && (n + i) % 4)
            rec.string[i] = string_of(n / 3 + i);
    }
    rec.number[JC_FIELD_VERSION].value = JC_RECORD_VERSION;
    rec.number[JC_FIELD_JOB_ID].value = n + 1;
    rec.number[JC_FIELD_END].value = NOON + n / 4;
    rec.number[JC_FIELD_GID].value = 5; /* shared by all */
    if (rec.number[JC_FIELD_SLUID].known)
        rec.number[JC_FIELD_SLUID].value = UINT64_MAX - n;
    rec.limit_kind = (enum jc_limit)(n % 4);
    rec.time_limit = rec.limit_kind == JC_LIMIT_MINUTES ? n : 0;
    rec.string[JC_FIELD_CLUSTER] = SLICE("c");
    rec.string[JC_FIELD_WORK_DIR] = (struct jc_slice){text + n, 40 + n % 90};
    if (n == 77)
        rec.string[JC_FIELD_NODES] = (struct jc_slice){text, TEXT_MAX - 1};
    if (n % 5)
        rec.extra = (struct jc_slice){extra, sizeof(extra) - 1};
    return rec;
}

static size_t encode(const struct jc_record *rec, uint8_t *out)
{
    struct mp_writer w;

    mp_writer_init(&w, out, 2 * TEXT_MAX);
    jc_record_encode(&w, rec);
    assert_false(w.full);
    return (size_t)(w.pos - out);
}

/* Every row of s must be that of the job whose id it has, in order. */
static void check_rows(const struct jc_segment *s, unsigned jobs)
{
    static uint8_t want[2 * TEXT_MAX], got[2 * TEXT_MAX];
    static struct jc_rows rows;
    uint64_t before = 0, seen = 0, ttl;

    jc_rows_reset(&rows);
    for (uint32_t b = 0; b < s->blocks; b++)
        for (uint32_t r = 0; r < s->order[b]->rows; r++, seen++) {
            struct jc_place place = {b, r};
            uint64_t id = jc_block_code(s->order[b], r, JC_FIELD_JOB_ID);
            struct jc_record rec = job((unsigned)id - 1);
            size_t n = encode(&rec, want);
            size_t max = jc_rows_at(&rows, s, place);

            assert_true(id > before); /* as jobs end in order of id */
            before = id;
            assert_true(max >= n + sizeof(uint64_t) && max <= sizeof(got));
            assert_int_equal(jc_rows_write(&rows, r, got), n);
            assert_memory_equal(got, want, n);
            jc_segment_get(s, place, &rec, &ttl);
            assert_int_equal(encode(&rec, got), n);
            assert_memory_equal(got, want, n);
            assert_int_equal(ttl, id % 3);
        }
    assert_int_equal(seen, jobs);
    assert_int_equal(s->rows, jobs);
}

static void put(struct jc_segment *s, unsigned n)
{
    struct jc_record rec = job(n);

    assert_int_equal(jc_segment_put(s, &rec, (n + 1) % 3), JC_PUT_NEW);
}

static size_t counted_bytes(const struct jc_segment *s)
{
    size_t bytes = 0;

    for (uint32_t b = 0; b < s->blocks; b++)
        if (s->order[b]->sealed)
            bytes += jc_block_bytes(s->order[b]);
    return bytes;
}

static void test_rows(void **state)
{
    struct jc_segment *s = jc_segment_new(DAY);

    (void)state;
    for (unsigned n = 0; n < 3000; n++)
        put(s, n);
    check_rows(s, 3000); /* the blocks are open */
    jc_segment_seal(s);
    check_rows(s, 3000);
    jc_segment_free(s);
}

/* A shared column is no longer one when a row with another value came. */
static void test_shared_column_ends(void **state)
{
    static struct jc_rows rows;
    static uint8_t got[2 * TEXT_MAX], want[2 * TEXT_MAX];
    struct jc_segment *s = jc_segment_new(DAY);

    (void)state;
    for (unsigned n = 0; n < 3; n++) {
        struct jc_record rec = job(40);
        size_t bytes;

        rec.number[JC_FIELD_END].value += n;
        rec.number[JC_FIELD_JOB_ID].value += n;
        rec.number[JC_FIELD_GID].value += n == 2;
        assert_int_equal(jc_segment_put(s, &rec, 0), JC_PUT_NEW);
        jc_rows_reset(&rows);
        jc_rows_at(&rows, s, (struct jc_place){0, n});
        bytes = encode(&rec, want);
        assert_int_equal(jc_rows_write(&rows, n, got), bytes);
        assert_memory_equal(got, want, bytes);
    }
    jc_segment_free(s);
}

/* Of every STEP jobs one comes when the others are sealed. */
static void late(unsigned jobs, unsigned step)
{
    struct jc_segment *s = jc_segment_new(DAY);
    struct jc_place place;
    struct jc_record rec;

    for (unsigned n = 0; n < jobs; n++)
        if (n % step)
            put(s, n);
    jc_segment_seal(s);
    for (unsigned n = 0; n < jobs; n += step) {
        unsigned back = (n * 7919u) % (jobs / step * step);

        put(s, back / step * step);
        if (n % (64 * step) == 0)
            assert_int_equal(s->sealed_bytes, counted_bytes(s));
    }
    assert_true(s->late_blocks > 0);
    for (uint32_t b = 0; b < s->blocks; b++)
        assert_true(s->order[b]->sealed); /* none was opened for them */
    check_rows(s, jobs);
    for (unsigned n = 0; n < jobs; n++) {
        rec = job(n);
        assert_true(jc_segment_find_run(s, &rec, &place));
        assert_int_equal(jc_segment_put(s, &rec, (n + 1) % 3), JC_PUT_KNOWN);
    }
    /* one in between is taken out while others are late */
    rec = job(step);
    assert_true(jc_segment_find_run(s, &rec, &place));
    jc_segment_remove(s, place);
    assert_false(jc_segment_find_run(s, &rec, &place));
    put(s, step);
    check_rows(s, jobs);
    while (s->seen)
        jc_segment_cool(s);
    assert_int_equal(s->late_blocks, 0);
    assert_int_equal(s->sealed_bytes, counted_bytes(s));
    for (uint32_t b = 0; b < s->blocks; b++)
        assert_true(s->order[b]->sealed && !s->order[b]->late);
    check_rows(s, jobs);
    jc_segment_free(s);
}

static void test_few_late(void **state)
{
    (void)state;
    late(5000, 100);
}

static void test_many_late(void **state)
{
    (void)state;
    late(12000, 4);
}

/* A block with late rows that is opened for something else keeps its order. */
static void test_late_and_changed(void **state)
{
    struct jc_segment *s = jc_segment_new(DAY);
    struct jc_record rec;

    (void)state;
    for (unsigned n = 0; n < 1000; n++)
        if (n % 5)
            put(s, n);
    jc_segment_seal(s);
    for (unsigned n = 0; n < 1000; n += 5) {
        put(s, n);
        rec = job(n + 1); /* lives longer from now on */
        assert_int_equal(jc_segment_put(s, &rec, 0), JC_PUT_KNOWN);
        rec = job(n);
        assert_int_equal(jc_segment_put(s, &rec, 0), JC_PUT_KNOWN);
        if (n % 7 == 0)
            jc_segment_seal(s);
    }
    assert_int_equal(s->rows, 1000);
    for (unsigned n = 0; n < 1000; n++) {
        struct jc_place place;
        uint64_t ttl;

        rec = job(n);
        assert_true(jc_segment_find_run(s, &rec, &place));
        jc_segment_get(s, place, &rec, &ttl);
        assert_int_equal(ttl, n % 5 < 2 ? 0 : (n + 1) % 3);
    }
    jc_segment_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_shared_column_ends),
        cmocka_unit_test(test_few_late),
        cmocka_unit_test(test_many_late),
        cmocka_unit_test(test_late_and_changed),
    };

    for (unsigned i = 0; i < TEXT_MAX; i++)
        text[i] = (char)('a' + (i * i / 7 + i) % 26);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

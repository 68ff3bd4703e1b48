/* SPDX-License-Identifier: MIT */
/* A segment knows what it takes, and lives on when every allocation moves. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "segment.h"
#include "unit.h"

#define DAY 19000
#define NOON ((uint64_t)DAY * JC_DAY_SECONDS + 43200)

static size_t live; /* bytes allocated now */

static void *counted_alloc(size_t n)
{
    void *p = malloc(n ? n : 1);

    live += malloc_usable_size(p);
    return p;
}

static void counted_free(void *p)
{
    live -= malloc_usable_size(p);
    free(p);
}

static void *counted_resize(void *p, size_t n)
{
    live -= p ? malloc_usable_size(p) : 0;
    p = realloc(p, n ? n : 1);
    live += malloc_usable_size(p);
    return p;
}

static void put(struct jc_segment *s, uint32_t id, uint64_t end)
{
    static char dir[32], name[32];
    struct jc_record rec = {0};

    for (unsigned i = 0; i < JC_FIELD_COUNT; i++)
        rec.number[i].known = jc_fields[i].kind == JC_KIND_NUMBER &&
                              jc_fields[i].required;
    rec.number[JC_FIELD_VERSION].value = 1;
    rec.number[JC_FIELD_JOB_ID].value = id;
    rec.number[JC_FIELD_END].value = end;
    snprintf(dir, sizeof(dir), "/scratch/%u", id);
    snprintf(name, sizeof(name), "run-%u", id % 7000);
    rec.string[JC_FIELD_WORK_DIR] = SLICE(dir);
    rec.string[JC_FIELD_NAME] = SLICE(name);
    assert_int_equal(jc_segment_put(s, &rec, 0), JC_PUT_NEW);
}

/* In order, late, some taken out again, and some more that are late. */
static struct jc_segment *filled(void)
{
    struct jc_segment *s = jc_segment_new(DAY);

    for (uint32_t i = 0; i < 12000; i++)
        put(s, i + 1, NOON + (i % 5 ? i : 11999 - i));
    for (uint32_t i = 0; i < 3000; i++)
        jc_segment_remove(s, (struct jc_place){(i * 7) % s->blocks, 0});
    for (uint32_t i = 0; i < 200; i++)
        put(s, 50000 + i, NOON + i * 59);
    assert_true(s->late_blocks > 0);
    return s;
}

static void test_bytes(void **state)
{
    struct jc_segment *s;
    size_t before = live;

    (void)state;
    s = filled();
    assert_int_equal(jc_segment_bytes(s), live - before);
    jc_segment_seal(s);
    assert_int_equal(jc_segment_bytes(s), live - before);
    jc_segment_free(s);
    assert_int_equal(live, before);
}

static void *move(void *ctx, void *p)
{
    size_t n = malloc_usable_size(p);
    void *to;

    (void)ctx;
    if (rand() % 4 == 0)
        return NULL;
    to = counted_alloc(n);
    memcpy(to, p, n);
    memset(p, 0xdd, n);
    counted_free(p);
    return to;
}

static bool stop(void *ctx)
{
    (void)ctx;
    return rand() % 3 == 0;
}

static bool same(struct jc_slice a, struct jc_slice b)
{
    return a.n == b.n && !memcmp(a.p, b.p, a.n);
}

static void assert_same(const struct jc_segment *a, const struct jc_segment *b)
{
    assert_int_equal(a->blocks, b->blocks);
    for (uint32_t i = 0; i < a->blocks; i++) {
        assert_int_equal(a->order[i]->rows, b->order[i]->rows);
        for (uint32_t r = 0; r < a->order[i]->rows; r++) {
            struct jc_record x, y;
            char dir[32];
            uint64_t ttl;

            jc_segment_get(a, (struct jc_place){i, r}, &x, &ttl);
            snprintf(dir, sizeof(dir), "%.*s",
                     (int)x.string[JC_FIELD_WORK_DIR].n,
                     x.string[JC_FIELD_WORK_DIR].p);
            jc_segment_get(b, (struct jc_place){i, r}, &y, &ttl);
            assert_true(same(SLICE(dir), y.string[JC_FIELD_WORK_DIR]));
            assert_true(same(x.string[JC_FIELD_NAME], y.string[JC_FIELD_NAME]));
            assert_int_equal(x.number[JC_FIELD_END].value,
                             y.number[JC_FIELD_END].value);
        }
    }
}

static void test_move(void **state)
{
    struct jc_segment *a = filled(), *b = filled();
    unsigned long cursor = 0;
    struct jc_mover mover = {move, stop, NULL};
    unsigned calls = 1;

    (void)state;
    while (jc_segment_move(&b, &cursor, &mover))
        calls++;
    assert_true(calls > 1);
    assert_same(a, b);
    for (uint32_t i = 0; i < 3000; i++) {
        put(a, 100000 + i, NOON + i * 3);
        put(b, 100000 + i, NOON + i * 3);
    }
    assert_same(a, b);
    jc_segment_free(a);
    jc_segment_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_move),
    };

    jc_host.alloc = counted_alloc;
    jc_host.resize = counted_resize;
    jc_host.free = counted_free;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

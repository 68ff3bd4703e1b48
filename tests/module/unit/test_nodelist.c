/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "nodelist.h"
#include "unit.h"

static bool meet(const char *sought, const char *job)
{
    struct jc_nodelist list = {0};
    const char *why = jc_nodelist_add(&list, SLICE(sought));
    uint64_t work = 0;
    bool found;

    assert_null(why);
    jc_nodelist_done(&list);
    found = jc_nodelist_overlaps(&list, SLICE(job), &work);
    jc_nodelist_free(&list);
    return found;
}

static void both_ways(const char *a, const char *b, bool expected)
{
    if (meet(a, b) != expected || meet(b, a) != expected)
        fail_msg("%s and %s: expected %d", a, b, expected);
}

static void test_overlap(void **state)
{
    (void)state;
    both_ways("n1", "n1", true);
    both_ways("n1", "n2", false);
    both_ways("n[1-3]", "n2", true);
    both_ways("n[1-3]", "n4", false);
    both_ways("n[1-3,7],gpu2", "n[4-7]", true);
    both_ways("n[1-3,7],gpu2", "n[4-6],gpu[1-2]", true);
    both_ways("n[1-3,7],gpu2", "n[4-6],gpu1", false);
    both_ways("login", "login", true);
    both_ways("login", "logi", false);
    both_ways("n1", "n", false);
}

/* A number is the same node only when it is written the same. */
static void test_padding(void **state)
{
    (void)state;
    both_ways("n[01-10]", "n1", false);
    both_ways("n[01-10]", "n01", true);
    both_ways("n[01-10]", "n10", true);
    both_ways("n[1-10]", "n[01-09]", false);
    both_ways("n[1-10]", "n[08-12]", true);
    both_ways("n[001-200]", "n[50-99]", false);
    both_ways("n[001-200]", "n[50-100]", true);
}

/* One name, taken apart in different ways. */
static void test_forms(void **state)
{
    (void)state;
    both_ways("n1[0-3]", "n12", true);
    both_ways("n1[0-3]", "n[11-20]", true);
    both_ways("n1[0-3]", "n[14-20]", false);
    both_ways("n1[8-11]", "n111", true);
    both_ways("n1[8-11]", "n19", true);
    both_ways("n1[8-11]", "n112", false);
    both_ways("r[1-2]n[1-4]", "r2n3", true);
    both_ways("r[1-2]n[1-4]", "r3n3", false);
    both_ways("r[1-2]n[1-4]", "r2n[4-9]", true);
    both_ways("n[1-3]-ib", "n2-ib", true);
    both_ways("n[1-3]-ib0", "n2-ib0", true);
    both_ways("n[1-3]-ib0", "n2-ib1", false);
    both_ways("n99999999999999999999", "n99999999999999999999", true);
}

static void test_refused(void **state)
{
    const char *bad[] = {"", ",", "n[", "n[1", "n[]", "n[3-1]", "n[a]",
                         "n]", "n[1]]", "n[1-]", "n[1-2-3]",
                         "a[1][1][1][1][1][1][1][1][1]"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct jc_nodelist list = {0};

        if (!jc_nodelist_add(&list, SLICE(bad[i])))
            fail_msg("'%s' was taken", bad[i]);
        jc_nodelist_free(&list);
    }
}

/* Work is bounded whatever a list announces. */
static void test_bounded(void **state)
{
    static const char HUGE[] = "a[1-999999999]b[1-999999999]c[1-999999999]";
    /* names no node that there may be, and takes its time to say so */
    static const char NOTHING[] = "a1,n[1-999]a111111111111111111[1]";
    static const char TWICE[] = "a1,n[1-999]a111111111111111111[%s1]";
    static const char TOO_MANY[] = "node lists name too many nodes one by one";
    char ones[2001] = "", text[sizeof(TWICE) + sizeof(ones)];
    const char *why = NULL;
    struct jc_nodelist list = {0};
    uint64_t work = 0;

    (void)state;
    assert_null(jc_nodelist_add(&list, SLICE("a1")));
    jc_nodelist_done(&list);
    assert_false(jc_nodelist_overlaps(&list, SLICE(HUGE), &work));
    assert_true(work > 1000000);
    work = 0;
    assert_false(jc_nodelist_overlaps(&list, SLICE("b1"), &work));
    assert_true(work < 1000);
    assert_non_null(jc_nodelist_add(&list, SLICE(HUGE)));
    jc_nodelist_free(&list);

    assert_null(jc_nodelist_add(&list, SLICE(NOTHING)));
    for (unsigned i = 0; i < 1000 && !why; i++)
        why = jc_nodelist_add(&list, SLICE(NOTHING));
    assert_string_equal(why, TOO_MANY);
    jc_nodelist_free(&list);

    for (unsigned i = 0; i < 1000; i++)
        memcpy(ones + 2 * i, "1,", 3);
    snprintf(text, sizeof(text), TWICE, ones);
    assert_string_equal(jc_nodelist_add(
        &list, (struct jc_slice){text, (uint32_t)strlen(text)}), TOO_MANY);
    jc_nodelist_free(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overlap), cmocka_unit_test(test_padding),
        cmocka_unit_test(test_forms), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

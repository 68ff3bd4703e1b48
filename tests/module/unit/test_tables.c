/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "dict.h"
#include "idindex.h"
#include "ranges.h"
#include "unit.h"

static void test_dict(void **state)
{
    static char big[200000];
    struct jc_dict d = {0};
    char text[32];

    (void)state;
    memset(big, 'x', sizeof(big));
    assert_int_equal(jc_dict_find(&d, SLICE("a")), JC_DICT_NONE);
    for (unsigned i = 0; i < 20000; i++) {
        struct jc_slice large = {big, 60000 + i};

        snprintf(text, sizeof(text), "string %u", i);
        assert_int_equal(jc_dict_add(&d, SLICE(text)), i + (i + 999) / 1000);
        if (i % 1000 == 0)
            jc_dict_add(&d, large);
    }
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t id;

        snprintf(text, sizeof(text), "string %u", i);
        id = jc_dict_find(&d, SLICE(text));
        assert_int_equal(id, i + (i + 999) / 1000);
        assert_int_equal(jc_dict_add(&d, SLICE(text)), id);
        assert_int_equal(jc_dict_get(&d, id).n, strlen(text));
        assert_memory_equal(jc_dict_get(&d, id).p, text, strlen(text));
    }
    assert_int_equal(jc_dict_get(&d, 1).n, 60000);
    jc_dict_add(&d, SLICE(""));
    assert_int_equal(jc_dict_get(&d, d.count - 1).n, 0);
    jc_dict_free(&d);
}

static unsigned blocks_of(const struct jc_idindex *x, uint32_t id)
{
    uint32_t at = 0, block;
    unsigned n = 0;

    while (jc_idindex_next(x, id, &at, &block))
        n++;
    return n;
}

static void test_idindex(void **state)
{
    struct jc_idindex x = {0};

    (void)state;
    for (uint32_t id = 0; id < 30000; id++)
        for (uint32_t b = 0; b <= id % 3; b++)
            jc_idindex_add(&x, id * 7919, b);
    for (uint32_t id = 0; id < 30000; id++)
        jc_idindex_add(&x, id * 7919, 0); /* is there */
    for (uint32_t id = 0; id < 30000; id++)
        assert_int_equal(blocks_of(&x, id * 7919), id % 3 + 1);
    assert_int_equal(blocks_of(&x, 1), 0);
    for (uint32_t id = 0; id < 30000; id += 2)
        for (uint32_t b = 0; b < 3; b++)
            jc_idindex_remove(&x, id * 7919, b);
    for (uint32_t id = 0; id < 30000; id++)
        assert_int_equal(blocks_of(&x, id * 7919),
                         id % 2 ? id % 3 + 1 : 0);
    jc_idindex_free(&x);
}

static void test_ranges(void **state)
{
    struct jc_ranges r = {0};

    (void)state;
    jc_ranges_add(&r, 10, 20);
    jc_ranges_add(&r, 1, 3);
    jc_ranges_add(&r, 4, 4);
    jc_ranges_add(&r, 15, 30);
    jc_ranges_add(&r, UINT64_MAX, UINT64_MAX);
    jc_ranges_sort(&r);
    assert_int_equal(r.n, 3);
    for (uint64_t v = 0; v < 40; v++)
        assert_int_equal(jc_ranges_have(&r, v),
                         (v >= 1 && v <= 4) || (v >= 10 && v <= 30));
    assert_true(jc_ranges_have(&r, UINT64_MAX));
    assert_true(jc_ranges_meet(&r, 5, 10));
    assert_false(jc_ranges_meet(&r, 5, 9));
    assert_true(jc_ranges_cover(&r, 10, 30));
    assert_false(jc_ranges_cover(&r, 9, 30));
    jc_ranges_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dict),
        cmocka_unit_test(test_idindex),
        cmocka_unit_test(test_ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "event.h"
#include "unit.h"

/* Writes into memory that ends where it may end. */
static size_t write_event(const struct jc_event *ev, char **text)
{
    size_t n;

    *text = malloc(jc_event_max(ev));
    assert_non_null(*text);
    n = jc_event_write(ev, *text);
    assert_in_range(n, 2, jc_event_max(ev));
    return n;
}

static void test_nothing_known(void **state)
{
    static const char NOTHING[] =
        "{\"id\":null,\"job\":\"0\",\"job_id\":null,\"cluster\":null,"
        "\"uid\":null,\"user\":null,\"account\":null,\"partition\":null,"
        "\"name\":null,\"state\":\"PENDING\",\"exit\":null,\"submit\":null,"
        "\"start\":null,\"end\":null,\"restarts\":null}";
    struct jc_record rec = {0};
    struct jc_event ev = {.rec = &rec};
    char *text;

    (void)state;
    assert_int_equal(write_event(&ev, &text), sizeof(NOTHING) - 1);
    assert_memory_equal(text, NOTHING, sizeof(NOTHING) - 1);
    free(text);
}

/* The longest there is: every number has 20 digits, every byte is escaped. */
static void test_the_longest(void **state)
{
    static char names[3000];
    struct jc_record rec = {0};
    struct jc_event ev = {&rec, SLICE("spool-1234"), UINT64_MAX, true};
    char *text;

    (void)state;
    memset(names, 1, sizeof(names));
    for (unsigned i = 0; i < JC_FIELD_COUNT; i++) {
        rec.number[i] = (struct jc_number){UINT64_MAX, true};
        rec.string[i] = (struct jc_slice){names, sizeof(names)};
    }
    assert_in_range(write_event(&ev, &text), 5 * 6 * sizeof(names),
                    jc_event_max(&ev));
    free(text);
}

/* A sequence that the end of the string cuts is looked at no further. */
static void test_a_sequence_that_is_cut(void **state)
{
    static const char FROM[] = "\xf0\x9f\x98\x80";
    struct jc_record rec = {0};
    struct jc_event ev = {.rec = &rec};

    (void)state;
    for (uint32_t n = 1; n < sizeof(FROM); n++) {
        const char *expect = n < 4 ? "\"\xef\xbf\xbd\"," : "\"\xf0\x9f\x98\x80\",";
        char *cut = malloc(n), *text, *at;
        size_t written;

        assert_non_null(cut);
        memcpy(cut, FROM, n);
        rec.string[JC_FIELD_USER] = (struct jc_slice){cut, n};
        written = write_event(&ev, &text);
        at = memmem(text, written, "\"user\":", 7);
        assert_non_null(at);
        assert_memory_equal(at + 7, expect, strlen(expect));
        free(cut);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_the_longest),
        cmocka_unit_test(test_a_sequence_that_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include "resizes.h"

static void _second_resize_knows_the_first(void **state)
{
	(void) state;
	assert_int_equal(resizes_note(7, 100), 0);
	assert_int_equal(resizes_note(8, 150), 0);
	assert_int_equal(resizes_note(7, 200), 100);
	assert_int_equal(resizes_note(7, 300), 200);
	assert_int_equal(resizes_note(8, 400), 150);
}

static void _the_oldest_are_forgotten(void **state)
{
	(void) state;
	for (uint32_t id = 1000; id < 1256; id++)
		assert_int_equal(resizes_note(id, 500), 0);
	assert_int_equal(resizes_note(1001, 600), 500);
	assert_int_equal(resizes_note(7, 700), 0);
	assert_int_equal(resizes_note(1255, 800), 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(_second_resize_knows_the_first),
		cmocka_unit_test(_the_oldest_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

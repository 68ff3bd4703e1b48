/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include "resizes.h"

/* What is noted lasts as long as the process: each test has ids of its own. */

static void _second_resize_knows_the_first(void **state)
{
	(void) state;
	assert_int_equal(resizes_note(7, 50, 100), 0);
	assert_int_equal(resizes_note(8, 50, 150), 0);
	assert_int_equal(resizes_note(7, 50, 200), 100);
	assert_int_equal(resizes_note(7, 50, 300), 200);
	assert_int_equal(resizes_note(8, 50, 400), 150);
}

static void _an_earlier_run_does_not_count(void **state)
{
	(void) state;
	assert_int_equal(resizes_note(17, 50, 100), 0);
	assert_int_equal(resizes_note(17, 101, 200), 0);
	assert_int_equal(resizes_note(17, 200, 300), 200);
}

static void _the_oldest_are_forgotten(void **state)
{
	(void) state;
	for (uint32_t id = 1000; id < 1256; id++)
		assert_int_equal(resizes_note(id, 50, 500), 0);
	assert_int_equal(resizes_note(1001, 50, 600), 500);
	assert_int_equal(resizes_note(7, 50, 700), 0);
	assert_int_equal(resizes_note(1255, 50, 800), 500);
}

static void _write_file(const char *text)
{
	FILE *file = fopen(test_path(RESIZES_FILE), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void _a_restart_takes_in_what_was_saved(void **state)
{
	(void) state;
	_write_file("2001 600\n2002 700\n");
	resizes_load(test_dir);
	assert_int_equal(resizes_note(2001, 50, 800), 600);
	assert_int_equal(resizes_note(2002, 50, 800), 700);
}

static void _what_is_saved_can_be_read(void **state)
{
	char text[8192] = "";
	FILE *file;

	(void) state;
	assert_int_equal(resizes_note(3001, 50, 900), 0);
	resizes_save(test_dir);
	assert_int_equal(test_files(RESIZES_FILE), 1);
	file = fopen(test_path(RESIZES_FILE), "r");
	assert_non_null(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	assert_non_null(strstr(text, "3001 900\n"));

	/* and nothing is written while nothing is new */
	assert_int_equal(unlink(test_path(RESIZES_FILE)), 0);
	resizes_save(test_dir);
	assert_int_equal(test_files(RESIZES_FILE), 0);
}

static void _a_damaged_file_says_nothing(void **state)
{
	(void) state;
	_write_file("not 1\n0 600\n4001 -5\n4002\n\377\001\n99999999999999999999 4\n4003 650\n");
	resizes_load(test_dir);
	assert_int_equal(resizes_note(4001, 50, 800), 0);
	assert_int_equal(resizes_note(4002, 50, 800), 0);
	assert_int_equal(resizes_note(4003, 50, 800), 650);
	resizes_load("/nowhere");
	assert_int_equal(test_log_lines, 0);
}

static void _no_place_to_save_is_said_once(void **state)
{
	(void) state;
	assert_int_equal(resizes_note(5001, 50, 100), 0);
	resizes_save("/nowhere");
	resizes_save("/nowhere");
	assert_int_equal(test_log_lines, 1);
	assert_non_null(strstr(test_log, "/nowhere/" RESIZES_FILE));
	resizes_save("");
	assert_int_equal(test_log_lines, 1);
}

#define IN_DIRECTORY(test) \
	cmocka_unit_test_setup_teardown(test, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(_second_resize_knows_the_first),
		cmocka_unit_test(_an_earlier_run_does_not_count),
		cmocka_unit_test(_the_oldest_are_forgotten),
		IN_DIRECTORY(_a_restart_takes_in_what_was_saved),
		IN_DIRECTORY(_what_is_saved_can_be_read),
		IN_DIRECTORY(_a_damaged_file_says_nothing),
		IN_DIRECTORY(_no_place_to_save_is_said_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

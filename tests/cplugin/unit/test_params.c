/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include "params.h"

static struct params params;

static void _parse(const char *loc, const char *options)
{
	test_log_lines = 0;
	params_parse(&params, loc, options);
}

static void _are_defaults(void)
{
	assert_string_equal(params.ingest_path, "/run/slurmjcd/ingest.sock");
	assert_string_equal(params.query_path, "/run/slurmjcd/query.sock");
	assert_string_equal(params.ring_dir, "");
	assert_int_equal(params.ring_mib, 32);
	assert_int_equal(params.spill_mib, 1024);
	assert_int_equal(params.timeout_s, 10);
	assert_string_equal(params.daemon_user, "slurmjcd");
	assert_false(params.store_script);
}

static void test_nothing_given_means_the_defaults(void **state)
{
	(void) state;
	_parse(NULL, NULL);
	_are_defaults();
	_parse("", "");
	_are_defaults();
	assert_int_equal(test_log_lines, 0);
}

static void test_every_option_is_taken(void **state)
{
	(void) state;
	_parse("/srv/jc//", "ring_dir=/run/r,ring_mib=1,,spill_mib=0,"
	       "timeout=3600,store_script");
	assert_int_equal(test_log_lines, 0);
	assert_string_equal(params.ingest_path, "/srv/jc/ingest.sock");
	assert_string_equal(params.query_path, "/srv/jc/query.sock");
	assert_string_equal(params.ring_dir, "/run/r");
	assert_int_equal(params.ring_mib, 1);
	assert_int_equal(params.spill_mib, 0);
	assert_int_equal(params.timeout_s, 3600);
	assert_true(params.store_script);
}

static void test_the_longest_directory_fits_its_socket(void **state)
{
	char loc[200];

	(void) state;
	memset(loc, 'a', sizeof(loc));
	loc[0] = '/';
	loc[95] = '\0';
	_parse(loc, NULL);
	assert_int_equal(test_log_lines, 0);
	assert_int_equal(strlen(params.ingest_path), PARAMS_PATH_BYTES - 1);
	loc[95] = 'a';
	loc[96] = '\0';
	_parse(loc, NULL);
	assert_int_equal(test_log_lines, 1);
	assert_non_null(strstr(test_log, "96 characters"));
	_are_defaults();
}

static void test_nonsense_is_one_line_and_the_default(void **state)
{
	static const char *const nonsense[] = {
		"ring_mib", "ring_mib=", "ring_mib=0", "ring_mib=1025",
		"ring_mib=-1", "ring_mib=0x10", "ring_mib=1e9", "ring_mib=4M",
		"ring_mib= 4", "ring_mib=99999999999999999999",
		"spill_mib=1048577", "timeout=0", "ring_dir", "ring_dir=",
		"ring_dir=relative/path", "RING_MIB=4", "ring_mib =4",
		"store_script=yes", "host=redis", "=", "=4", " ",
		"ring_mib=4\n", "\x1b[31m", "flush_timeout=1",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(nonsense) / sizeof(*nonsense); i++) {
		_parse(NULL, nonsense[i]);
		if (test_log_lines != 1)
			print_error("%s\n", nonsense[i]);
		assert_int_equal(test_log_lines, 1);
		assert_null(strpbrk(test_log, "\n\x1b"));
		_are_defaults();
	}
}

static void test_a_bad_option_leaves_its_neighbours_alone(void **state)
{
	(void) state;
	_parse(NULL, "ring_mib=4,bogus,timeout=5");
	assert_int_equal(test_log_lines, 1);
	assert_non_null(strstr(test_log, "bogus"));
	assert_non_null(strstr(test_log, "expected ring_dir="));
	assert_int_equal(params.ring_mib, 4);
	assert_int_equal(params.timeout_s, 5);
}

static void test_an_option_given_twice_is_one_line_and_the_last_one_counts(
	void **state)
{
	static const char *const names[] = {
		"ring_dir", "ring_mib", "spill_mib", "timeout", "daemon_user",
		"store_script",
	};
	static const char *const twice[] = {
		"ring_dir=/run/a,ring_mib=4,ring_dir=/run/r",
		"ring_mib=4,ring_mib=5", "spill_mib=9,,spill_mib=7",
		"timeout=5,timeout=5,timeout=6,timeout=8",
		"daemon_user=a,daemon_user=b", "store_script,store_script",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(twice) / sizeof(*twice); i++) {
		_parse(NULL, twice[i]);
		assert_int_equal(test_log_lines, 1);
		assert_non_null(strstr(test_log, names[i]));
		assert_non_null(strstr(test_log, "more than once"));
	}
	assert_true(params.store_script);
	_parse(NULL, twice[0]);
	assert_string_equal(params.ring_dir, "/run/r");
	assert_int_equal(params.ring_mib, 4);
	_parse(NULL, twice[1]);
	assert_int_equal(params.ring_mib, 5);
	_parse(NULL, twice[2]);
	assert_int_equal(params.spill_mib, 7);
	_parse(NULL, twice[3]);
	assert_int_equal(params.timeout_s, 8);
	_parse(NULL, twice[4]);
	assert_string_equal(params.daemon_user, "b");
	/* the second one is nonsense: that is said too, the first one stays */
	_parse(NULL, "ring_mib=4,ring_mib=x");
	assert_int_equal(test_log_lines, 2);
	assert_int_equal(params.ring_mib, 4);
}

static void test_a_user_that_is_none_is_told(void **state)
{
	(void) state;
	_parse(NULL, "daemon_user=");
	assert_int_equal(test_log_lines, 1);
	assert_non_null(strstr(test_log, "no user's name or uid"));
	_are_defaults();
	_parse(NULL, "daemon_user=j\x91" "c");
	assert_int_equal(test_log_lines, 1);
	assert_non_null(strstr(test_log, "daemon_user=j?c"));
	_are_defaults();
	_parse(NULL, "daemon_user=jc,ring_mib=4");
	assert_string_equal(params.daemon_user, "jc");
}

static void test_a_bad_location_says_what_would_be_right(void **state)
{
	(void) state;
	_parse("redis:6379", NULL);
	assert_int_equal(test_log_lines, 1);
	assert_non_null(strstr(test_log, "no absolute path"));
	_are_defaults();
}

static void test_a_line_of_64_kib_is_survived(void **state)
{
	char *line = malloc(65536);

	(void) state;
	memset(line, 'x', 65535);
	line[65535] = '\0';
	_parse(NULL, line);
	assert_int_equal(test_log_lines, 1);
	_are_defaults();
	memset(line, ',', 65535);
	_parse(line, line);
	assert_int_equal(test_log_lines, 1);
	_are_defaults();
	free(line);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_given_means_the_defaults),
		TEST(test_every_option_is_taken),
		TEST(test_the_longest_directory_fits_its_socket),
		TEST(test_nonsense_is_one_line_and_the_default),
		TEST(test_a_bad_option_leaves_its_neighbours_alone),
		TEST(test_an_option_given_twice_is_one_line_and_the_last_one_counts),
		TEST(test_a_user_that_is_none_is_told),
		TEST(test_a_bad_location_says_what_would_be_right),
		TEST(test_a_line_of_64_kib_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

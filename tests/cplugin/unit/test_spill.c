/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include "source.h"
#include "spill.h"

#define SIZE ((uint64_t) 64 << 10)
#define MAX_BYTES ((uint64_t) 16 << 20)

static char why[5000];

static struct spill *_spill(bool create)
{
	return spill_open(test_dir, "host-1", create, MAX_BYTES, why,
			  sizeof(why));
}

static enum spill_result _put(struct spill *spill, uint64_t n)
{
	struct {
		struct ring_rec_head head;
		uint8_t payload[1024];
	} record = { 0 };
	struct ring *ring = ring_private(4096, "x");
	struct ring_cursor cursor = ring_first(ring);
	const uint8_t *payload;
	enum spill_result result;

	/* a ring makes the sum and the number */
	ring->head.next_seq = cursor.seq = n;
	assert_true(test_append(ring, n));
	assert_int_equal(ring_read(ring, &cursor, &record.head, &payload),
			 RING_RECORD);
	result = spill_append(spill, &record.head, payload);
	ring_close(ring);
	return result;
}

static void _fill(uint64_t n)
{
	struct spill *spill = _spill(true);

	assert_non_null(spill);
	assert_true(spill_renumber(spill, 3, 0));
	for (uint64_t i = 1; i <= n; i++)
		assert_int_equal(_put(spill, i), SPILL_OK);
	assert_int_equal(spill_sync(spill), SPILL_OK);
	spill_close(spill);
}

/* Whole records in order; returns how many numbers are missing. */
static uint64_t _check(struct spill *spill, uint64_t *got)
{
	struct ring_cursor cursor = spill->first;
	struct ring_rec_head head;
	const uint8_t *payload;
	enum ring_read_result result;
	uint64_t expected = cursor.seq, missing = 0;

	*got = 0;
	while ((result = spill_read(spill, &cursor, &head, &payload)) !=
	       RING_EMPTY) {
		if (result == RING_HOLE) {
			missing += cursor.seq - expected;
			expected = cursor.seq;
			continue;
		}
		assert_int_equal(head.seq, expected);
		assert_true(test_matches(expected, &head, payload));
		expected++;
		++*got;
	}
	return missing;
}

static void test_records_are_there_after_a_restart(void **state)
{
	struct spill *spill;
	uint64_t got;

	(void) state;
	_fill(10000); /* larger than both buffers */
	spill = _spill(false);
	assert_non_null(spill);
	assert_int_equal(spill->generation, 3);
	assert_int_equal(spill->records, 10000);
	assert_int_equal(_check(spill, &got), 0);
	assert_int_equal(got, 10000);
	spill_close(spill);
	assert_int_equal(test_files(".spill"), 1);
}

static void test_an_emptied_file_is_removed(void **state)
{
	struct spill *spill;

	(void) state;
	_fill(5);
	spill = _spill(false);
	spill_free(spill, &spill->end);
	assert_int_equal(spill->records, 0);
	/* and can be filled again before that */
	assert_int_equal(_put(spill, 6), SPILL_OK);
	assert_int_equal(spill_sync(spill), SPILL_OK);
	assert_int_equal(spill->first.seq, 6);
	spill_free(spill, &spill->end);
	spill_close(spill);
	assert_int_equal(test_files(".spill"), 0);
	assert_null(_spill(false));
	assert_int_equal(errno, ENOENT);
}

static void test_a_torn_end_leaves_the_whole_records(void **state)
{
	char path[400];
	struct stat st;
	uint64_t got;

	(void) state;
	_fill(30);
	snprintf(path, sizeof(path), "%s", test_path("jobcomp_redis.host-1.spill"));
	assert_int_equal(stat(path, &st), 0);
	for (off_t cut = 0; cut < 2000; cut += 37) {
		struct spill *spill;

		assert_int_equal(truncate(path, st.st_size - cut), 0);
		spill = _spill(false);
		assert_non_null(spill);
		assert_int_equal(_check(spill, &got), 0);
		assert_int_equal(got, spill->records);
		assert_true(got >= 24);
		spill_close(spill);
	}
}

static void test_a_flipped_byte_costs_one_record(void **state)
{
	char path[400];

	(void) state;
	snprintf(path, sizeof(path), "%s", test_path("jobcomp_redis.host-1.spill"));
	for (off_t at = SPILL_HEADER_BYTES; at < SPILL_HEADER_BYTES + 5000;
	     at += 29) {
		struct spill *spill;
		uint64_t got, missing;

		_fill(20);
		test_flip(path, at);
		spill = _spill(false);
		assert_non_null(spill);
		missing = _check(spill, &got);
		assert_in_range(missing, 0, 1);
		assert_int_equal(got + missing, 20);
		spill_close(spill);
		(void) unlink(path);
	}
}

static void test_one_header_copy_is_enough(void **state)
{
	char path[400];
	struct spill *spill;

	(void) state;
	_fill(5);
	snprintf(path, sizeof(path), "%s", test_path("jobcomp_redis.host-1.spill"));
	spill = _spill(false);
	assert_true(spill_renumber(spill, 4, 7));
	spill_close(spill);
	test_flip(path, 20); /* copy 0, the newer one */
	spill = _spill(false);
	assert_non_null(spill);
	assert_int_equal(spill->generation, 3);
	assert_int_equal(spill->records, 5);
	spill_close(spill);
}

static void test_a_file_without_header_is_set_aside(void **state)
{
	char path[400];

	(void) state;
	_fill(5);
	snprintf(path, sizeof(path), "%s", test_path("jobcomp_redis.host-1.spill"));
	test_flip(path, 20);
	test_flip(path, SPILL_HEADER_BYTES / 2 + 20);
	assert_null(_spill(false));
	assert_non_null(strstr(why, "set aside as"));
	assert_int_equal(test_files(".damaged-"), 1);
}

static void test_a_full_file_says_so(void **state)
{
	struct spill *spill = spill_open(test_dir, "host-1", true, 16384, why,
					 sizeof(why));
	uint64_t n = 0;

	(void) state;
	while (_put(spill, n + 1) == SPILL_OK)
		n++;
	assert_true(n > 5);
	assert_int_equal(_put(spill, n + 1), SPILL_FULL);
	assert_int_equal(spill_sync(spill), SPILL_OK);
	assert_int_equal(spill->records, n);
	spill_close(spill);
}

static void test_a_failed_write_leaves_what_was_there(void **state)
{
	struct rlimit limit = { 20000, RLIM_INFINITY };
	struct spill *spill;
	uint64_t got, n;

	(void) state;
	_fill(10);
	spill = _spill(false);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (n = 11; n <= 60; n++)
		assert_int_equal(_put(spill, n), SPILL_OK);
	assert_int_equal(spill_sync(spill), SPILL_ERROR);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(spill->records, 10);
	limit.rlim_cur = RLIM_INFINITY;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (n = 11; n <= 60; n++)
		assert_int_equal(_put(spill, n), SPILL_OK);
	assert_int_equal(spill_sync(spill), SPILL_OK);
	spill_close(spill);
	spill = _spill(false);
	assert_int_equal(_check(spill, &got), 0);
	assert_int_equal(got, 60);
	spill_close(spill);
}

static void test_a_spill_file_has_one_owner(void **state)
{
	struct spill *spill = _spill(true);

	(void) state;
	assert_null(_spill(true));
	spill_close(spill);
}

/* ---- with the ring, as one source ---- */

static struct ring *_ring(void)
{
	struct ring *ring;

	assert_int_equal(ring_open(&ring, test_path("r"), SIZE, "host-1", true,
				   why, sizeof(why)), RING_OPENED);
	return ring;
}

static uint64_t _read_source(struct source *source, uint64_t first)
{
	struct source_cursor cursor = source_first(source);
	struct ring_rec_head head;
	const uint8_t *payload;
	uint64_t n = first;

	while (source_read(source, &cursor, &head, &payload) == RING_RECORD) {
		assert_true(test_matches(n, &head, payload));
		n++;
	}
	return n - first;
}

static void test_spilled_records_come_before_the_ring(void **state)
{
	struct source source;
	struct ring *ring = _ring();

	(void) state;
	source_init(&source, ring, NULL);
	for (uint64_t n = 1; n <= 60; n++)
		test_append(ring, n);
	assert_true(source_spill(&source, test_dir, MAX_BYTES, SIZE / 8));
	assert_true(ring_used(ring) <= SIZE / 8);
	for (uint64_t n = 61; n <= 90; n++)
		test_append(ring, n);
	assert_int_equal(_read_source(&source, 1), 90);
	assert_int_equal(source_counters(&source, 0).attempted, 90);
	assert_true(source_counters(&source, 0).spilled > 30);

	/* the same after a restart */
	source_close(&source);
	source_init(&source, _ring(), _spill(false));
	assert_int_equal(_read_source(&source, 1), 90);
	source_close(&source);
}

static void test_a_record_in_both_is_read_once(void **state)
{
	struct source source;
	struct ring *ring = _ring();
	struct ring_tail_slot before;

	(void) state;
	source_init(&source, ring, NULL);
	for (uint64_t n = 1; n <= 60; n++)
		test_append(ring, n);
	before = ring->tail;
	assert_true(source_spill(&source, test_dir, MAX_BYTES, SIZE / 8));
	/* killed between the fsync and the ring's tail */
	before.n = ring->tail.n;
	ring->tail = before;
	ring_save_tail(ring);
	source_close(&source);
	source_init(&source, _ring(), _spill(false));
	assert_int_equal(_read_source(&source, 1), 60);
	source_close(&source);
}

static void test_a_lost_ring_leaves_its_spill_file(void **state)
{
	struct source source;
	struct ring *ring = _ring();
	char name[SOURCE_NAME_BYTES];

	(void) state;
	source_init(&source, ring, NULL);
	for (uint64_t n = 1; n <= 40; n++)
		test_append(ring, n);
	assert_true(source_spill(&source, test_dir, MAX_BYTES, 0));
	source_close(&source);
	(void) unlink(test_path("r")); /* a reboot */
	source_init(&source, NULL, _spill(false));
	source_name(&source, name);
	assert_string_equal(name, "host-1.1");
	assert_int_equal(_read_source(&source, 1), 40);
	source_close(&source);
}

static void test_a_hole_starts_a_generation_numbered_from_one(void **state)
{
	struct source source;
	struct ring *ring = _ring();
	struct source_cursor cursor;
	struct ring_rec_head head;
	const uint8_t *payload;
	char name[SOURCE_NAME_BYTES];

	(void) state;
	source_init(&source, ring, NULL);
	for (uint64_t n = 1; n <= 10; n++)
		test_append(ring, n);
	ring->data[sizeof(head) + 1] ^= 1; /* record 1 */
	cursor = source_first(&source);
	assert_int_equal(source_read(&source, &cursor, &head, &payload),
			 RING_HOLE);
	assert_int_equal(cursor.at.seq, 2);
	source_count_lost(&source, 1);
	assert_int_equal(source_counters(&source, 0).dropped, 1);
	source_give_up(&source, &cursor);
	source_name(&source, name);
	assert_string_equal(name, "host-1.2");
	cursor = source_first(&source);
	assert_int_equal(source_wire_seq(&source, &cursor), 1);
	assert_int_equal(_read_source(&source, 2), 9);
	assert_int_equal(source_counters(&source, 0).attempted, 9);
	assert_int_equal(source_counters(&source, 0).dropped, 0);

	/* and it is remembered */
	source_close(&source);
	source_init(&source, _ring(), NULL);
	source_name(&source, name);
	assert_string_equal(name, "host-1.2");
	source_close(&source);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_records_are_there_after_a_restart),
		TEST(test_an_emptied_file_is_removed),
		TEST(test_a_torn_end_leaves_the_whole_records),
		TEST(test_a_flipped_byte_costs_one_record),
		TEST(test_one_header_copy_is_enough),
		TEST(test_a_file_without_header_is_set_aside),
		TEST(test_a_full_file_says_so),
		TEST(test_a_failed_write_leaves_what_was_there),
		TEST(test_a_spill_file_has_one_owner),
		TEST(test_spilled_records_come_before_the_ring),
		TEST(test_a_record_in_both_is_read_once),
		TEST(test_a_lost_ring_leaves_its_spill_file),
		TEST(test_a_hole_starts_a_generation_numbered_from_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

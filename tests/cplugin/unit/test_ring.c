/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "crc32c.h"
#include "ring_layout.h"

#define SIZE ((uint64_t) 64 << 10)

static char why[512];

static struct ring *_open(const char *name)
{
	struct ring *ring;

	assert_int_equal(ring_open(&ring, test_path(name), SIZE, "host-1",
				   true, why, sizeof(why)), RING_OPENED);
	return ring;
}

/* Reads to the end; records from first on must come without a hole. */
static uint64_t _read_all(struct ring *ring, uint64_t first)
{
	struct ring_cursor cursor = ring_first(ring);
	struct ring_rec_head head;
	const uint8_t *payload;
	uint64_t n = first;

	while (ring_read(ring, &cursor, &head, &payload) == RING_RECORD) {
		assert_true(test_matches(n, &head, payload));
		assert_int_equal(head.seq, n);
		n++;
	}
	return n - first;
}

static void test_crc_is_crc32c(void **state)
{
	(void) state;
	assert_int_equal(crc32c("123456789", 9), 0xe3069283);
	assert_int_equal(crc32c("", 0), 0);
}

static void test_records_come_out_as_they_went_in_over_many_laps(void **state)
{
	struct ring *ring = _open("r");
	struct ring_cursor cursor = ring_first(ring);
	uint64_t written = 0, read = 0;
	struct ring_rec_head head;
	const uint8_t *payload;

	(void) state;
	while (read < 5000) {
		while ((written < 5000) && (written - read < 60))
			assert_true(test_append(ring, ++written));
		for (int i = 0; (i < 37) && (read < written); i++) {
			assert_int_equal(ring_read(ring, &cursor, &head,
						   &payload), RING_RECORD);
			assert_true(test_matches(++read, &head, payload));
		}
		ring_free(ring, &cursor);
	}
	assert_int_equal(ring_used(ring), 0);
	ring_close(ring);
}

static void test_a_full_ring_counts_what_it_drops(void **state)
{
	struct ring *ring = _open("r");
	struct ring_cursor cursor = ring_first(ring);
	struct ring_rec_head head;
	const uint8_t *payload;
	uint64_t n = 0;

	(void) state;
	while (test_append(ring, n + 1))
		n++;
	assert_true(n > 50);
	assert_true(ring_used(ring) > SIZE - 1100);
	assert_false(test_append(ring, n + 1));
	assert_int_equal(ring->dropped, 2);
	assert_int_equal(ring->last_dropped_job, n + 1);

	for (int i = 0; i < 10; i++)
		assert_int_equal(ring_read(ring, &cursor, &head, &payload),
				 RING_RECORD);
	ring_free(ring, &cursor);
	assert_true(test_append(ring, n + 1));
	ring_close(ring);

	ring = _open("r");
	assert_int_equal(ring->dropped, 2);
	assert_int_equal(_read_all(ring, 11), n + 1 - 10);
	ring_close(ring);
}

static void test_numbers_go_on_after_an_empty_ring_is_reopened(void **state)
{
	struct ring *ring = _open("r");
	struct ring_cursor cursor = ring_first(ring);
	struct ring_rec_head head;
	const uint8_t *payload;

	(void) state;
	for (uint64_t n = 1; n <= 3; n++) {
		test_append(ring, n);
		(void) ring_read(ring, &cursor, &head, &payload);
	}
	ring_free(ring, &cursor);
	ring_close(ring);
	ring = _open("r");
	assert_string_equal(ring->id, "host-1");
	test_append(ring, 4);
	assert_int_equal(_read_all(ring, 4), 1);
	ring_close(ring);
}

static void test_a_ring_has_one_owner(void **state)
{
	struct ring *ring = _open("r"), *second;

	(void) state;
	assert_int_equal(ring_open(&second, test_path("r"), SIZE, "host-2",
				   true, why, sizeof(why)), RING_BUSY);
	assert_null(second);
	ring_close(ring);
	ring_close(_open("r"));
}

static void test_only_an_empty_ring_changes_its_size(void **state)
{
	struct ring *ring = _open("r");

	(void) state;
	test_append(ring, 1);
	ring_close(ring);
	assert_int_equal(ring_open(&ring, test_path("r"), SIZE * 2, "x", true,
				   why, sizeof(why)), RING_OPENED);
	assert_int_equal(ring->size, SIZE);
	assert_int_equal(_read_all(ring, 1), 1);
	ring_free(ring, &(struct ring_cursor) { .pos = ring->head.pos,
							.seq = 2 });
	ring_close(ring);
	assert_int_equal(ring_open(&ring, test_path("r"), SIZE * 2, "x", true,
				   why, sizeof(why)), RING_OPENED);
	assert_int_equal(ring->size, SIZE * 2);
	assert_string_equal(ring->id, "host-1");
	test_append(ring, 2);
	assert_int_equal(_read_all(ring, 2), 1);
	ring_close(ring);
}

/* ---- killed ---- */

/* In the child: appends and frees until killed, counting in shared memory. */
static void _work(struct ring *ring, volatile uint64_t *shared)
{
	struct ring_cursor cursor = ring_first(ring);
	struct ring_rec_head head;
	const uint8_t *payload;

	for (uint64_t n = shared[0] + 1;; n++) {
		while (!test_append(ring, n)) {
			/* frees a third, as an acknowledgement would */
			uint64_t stop = ring->tail.pos + SIZE / 3;

			while ((cursor.pos < stop) &&
			       (ring_read(ring, &cursor, &head, &payload) ==
				RING_RECORD))
				;
			shared[1] = cursor.seq; /* may be freed from now on */
			ring_free(ring, &cursor);
		}
		shared[0] = n; /* the hook has returned */
	}
}

static void test_nothing_is_lost_when_the_process_is_killed(void **state)
{
	volatile uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void) state;
	shared[1] = 1;
	for (int round = 0; round < 150; round++) {
		struct timespec pause = {
			.tv_nsec = 100000 + round * 7919 % 2000000,
		};
		struct ring *ring;
		pid_t pid = fork();
		uint64_t first, got;

		if (!pid) {
			_work(_open("r"), shared);
			_exit(1);
		}
		nanosleep(&pause, NULL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);

		ring = _open("r");
		first = ring->tail.seq;
		assert_true(first <= shared[1]);
		got = _read_all(ring, first);
		/* the one it was about to return from may be there or not */
		assert_in_range(first + got - 1, shared[0], shared[0] + 1);
		shared[0] = first + got - 1;
		ring_close(ring);
	}
	assert_true(shared[0] > 0);
	(void) munmap((void *) shared, 4096);
}

/* ---- damaged ---- */

static void _make_with_records(uint64_t n)
{
	struct ring *ring = _open("r");

	for (uint64_t i = 1; i <= n; i++)
		assert_true(test_append(ring, i));
	ring_close(ring);
}

/* Flips one byte, reopens, and tells what is read and what is missing. */
static void _after_flip(off_t at, uint64_t n, uint64_t *got, uint64_t *missing)
{
	struct ring_cursor cursor;
	struct ring_rec_head head;
	const uint8_t *payload;
	enum ring_read_result result;
	uint64_t expected = 1;
	struct ring *ring;

	_make_with_records(n);
	test_flip(test_path("r"), at);
	ring = _open("r");
	cursor = ring_first(ring);
	*got = *missing = 0;
	while ((result = ring_read(ring, &cursor, &head, &payload)) !=
	       RING_EMPTY) {
		if (result == RING_HOLE) {
			*missing += cursor.seq - expected;
			expected = cursor.seq;
			continue;
		}
		assert_true(test_matches(head.seq, &head, payload));
		expected = head.seq + 1;
		++*got;
	}
	assert_int_equal(expected, n + 1);
	ring_close(ring);
	(void) unlink(test_path("r"));
}

static void test_a_flipped_byte_costs_one_record_at_most(void **state)
{
	const uint64_t n = 12;

	(void) state;
	for (off_t at = RING_HEADER_BYTES; at < RING_HEADER_BYTES + 6000;
	     at += 13) {
		uint64_t got, missing;

		_after_flip(at, n, &got, &missing);
		assert_in_range(missing, 0, 1);
		assert_int_equal(got + missing, n);
	}
}

/* Damage behind a reader that has seen the record whole is not looked for. */
static void test_sums_are_computed_once_for_a_reader_that_knows(void **state)
{
	struct ring_rec_head head;
	const uint8_t *payload;
	struct ring_cursor cursor;
	struct ring *ring;

	(void) state;
	_make_with_records(2);
	test_flip(test_path("r"), RING_HEADER_BYTES + sizeof(head) + 1);
	ring = _open("r");
	cursor = ring_first(ring);
	cursor.whole_to = 2;
	assert_int_equal(ring_read(ring, &cursor, &head, &payload),
			 RING_RECORD);
	assert_int_equal(head.seq, 1);
	cursor = ring_first(ring);
	cursor.whole_to = 1;
	assert_int_equal(ring_read(ring, &cursor, &head, &payload), RING_HOLE);
	assert_int_equal(cursor.seq, 2);
	ring_close(ring);
}

static void test_a_flipped_byte_in_the_header_costs_nothing(void **state)
{
	(void) state;
	for (off_t at = 0; at < (off_t) sizeof(struct ring_header); at += 3) {
		uint64_t got, missing;

		_after_flip(at, 7, &got, &missing);
		assert_int_equal(got, 7);
		assert_int_equal(missing, 0);
	}
}

static void _lose_both(size_t a, size_t b)
{
	test_flip(test_path("r"), (off_t) a);
	test_flip(test_path("r"), (off_t) b);
}

static void test_without_one_end_every_record_is_sent_again(void **state)
{
	const size_t ends[2][2] = {
		{ offsetof(struct ring_header, head[0].pos),
		  offsetof(struct ring_header, head[1].pos) },
		{ offsetof(struct ring_header, tail[0].pos),
		  offsetof(struct ring_header, tail[1].pos) },
	};

	(void) state;
	for (int i = 0; i < 2; i++) {
		struct ring *ring;
		uint32_t generation;

		_make_with_records(20);
		_lose_both(ends[i][0], ends[i][1]);
		ring = _open("r");
		generation = ring->tail.generation;
		assert_int_equal(_read_all(ring, 1), 20);
		assert_int_equal(generation, 2);
		assert_true(test_append(ring, 21));
		assert_int_equal(_read_all(ring, 1), 21);
		ring_close(ring);
		(void) unlink(test_path("r"));
	}
}

static void test_what_is_no_ring_is_set_aside(void **state)
{
	int fd = open(test_path("r"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	struct ring *ring;

	(void) state;
	assert_int_equal(write(fd, "hello, world", 12), 12);
	(void) close(fd);
	assert_int_equal(ring_open(&ring, test_path("r"), SIZE, "a", true, why,
				   sizeof(why)), RING_DAMAGED);
	assert_non_null(strstr(why, "set aside as"));
	assert_int_equal(test_files(".damaged-"), 1);
	ring_close(_open("r"));
}

static void test_a_ring_without_identity_is_set_aside(void **state)
{
	struct ring *ring;

	(void) state;
	_make_with_records(3);
	_lose_both(offsetof(struct ring_header, ident[0].id),
		   offsetof(struct ring_header, ident[1].id));
	assert_int_equal(ring_open(&ring, test_path("r"), SIZE, "a", true, why,
				   sizeof(why)), RING_DAMAGED);
}

static void test_a_truncated_ring_is_set_aside(void **state)
{
	struct ring *ring;

	(void) state;
	_make_with_records(3);
	assert_int_equal(truncate(test_path("r"), 8192), 0);
	assert_int_equal(ring_open(&ring, test_path("r"), SIZE, "a", true, why,
				   sizeof(why)), RING_DAMAGED);
}

static void test_only_a_private_regular_file_is_opened(void **state)
{
	char target[400];
	struct ring *ring;

	(void) state;
	ring_close(_open("r"));
	snprintf(target, sizeof(target), "%s", test_path("r"));
	assert_int_equal(symlink(target, test_path("link")), 0);
	assert_int_equal(ring_open(&ring, test_path("link"), SIZE, "a", true,
				   why, sizeof(why)), RING_FAILED);
	assert_int_equal(chmod(test_path("r"), 0644), 0);
	assert_int_equal(ring_open(&ring, test_path("r"), SIZE, "a", true, why,
				   sizeof(why)), RING_FAILED);
	assert_non_null(strstr(why, "mode 0600"));
	assert_int_equal(mkfifo(test_path("fifo"), 0600), 0);
	assert_int_equal(ring_open(&ring, test_path("fifo"), SIZE, "a", true,
				   why, sizeof(why)), RING_FAILED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_crc_is_crc32c),
		TEST(test_records_come_out_as_they_went_in_over_many_laps),
		TEST(test_a_full_ring_counts_what_it_drops),
		TEST(test_numbers_go_on_after_an_empty_ring_is_reopened),
		TEST(test_a_ring_has_one_owner),
		TEST(test_only_an_empty_ring_changes_its_size),
		TEST(test_nothing_is_lost_when_the_process_is_killed),
		TEST(test_a_flipped_byte_costs_one_record_at_most),
		TEST(test_sums_are_computed_once_for_a_reader_that_knows),
		TEST(test_a_flipped_byte_in_the_header_costs_nothing),
		TEST(test_without_one_end_every_record_is_sent_again),
		TEST(test_what_is_no_ring_is_set_aside),
		TEST(test_a_ring_without_identity_is_set_aside),
		TEST(test_a_truncated_ring_is_set_aside),
		TEST(test_only_a_private_regular_file_is_opened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

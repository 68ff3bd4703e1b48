/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include <sys/wait.h>

#include "ring_dir.h"

#define SIZE ((uint64_t) 64 << 10)

static struct ring *_open(void)
{
	return ring_dir_open(test_dir, "/state", "c1", SIZE);
}

static void test_two_owners_have_two_rings(void **state)
{
	struct ring *old = _open(), *new = _open();

	(void) state;
	assert_string_not_equal(old->path, new->path);
	assert_string_not_equal(old->id, new->id);
	/* a successor does not touch what its predecessor still uses */
	test_append(old, 1);
	assert_null(ring_dir_adopt(test_dir, "/state", "c1"));
	test_append(old, 2);
	ring_close(old);
	old = ring_dir_adopt(test_dir, "/state", "c1");
	assert_non_null(old);
	assert_int_equal(old->head.next_seq, 3);
	ring_close(old);
	ring_close(new);
}

static void test_a_successor_takes_the_ring_of_the_dead(void **state)
{
	char id[RING_ID_BYTES];
	struct ring *ring;
	pid_t pid = fork();

	(void) state;
	if (!pid) {
		test_append(_open(), 1);
		_exit(0); /* as a reconfigure does, without fini */
	}
	waitpid(pid, NULL, 0);
	ring = _open();
	assert_int_equal(ring->head.next_seq, 2);
	assert_true(ring_used(ring) > 0);
	snprintf(id, sizeof(id), "%s", ring->id);
	ring_close(ring);
	ring = _open();
	assert_string_equal(ring->id, id);
	ring_close(ring);
}

static void test_other_slurmctlds_have_other_rings(void **state)
{
	struct ring *a = ring_dir_open(test_dir, "/state", "c1", SIZE);
	struct ring *b;

	(void) state;
	test_append(a, 1);
	ring_close(a);
	assert_null(ring_dir_adopt(test_dir, "/other", "c1"));
	b = ring_dir_open(test_dir, "/state", "c2", SIZE);
	assert_int_equal(ring_used(b), 0);
	ring_close(b);
}

static void test_an_empty_orphan_is_left_alone(void **state)
{
	(void) state;
	ring_close(_open());
	assert_null(ring_dir_adopt(test_dir, "/state", "c1"));
}

static void test_an_open_directory_is_not_used(void **state)
{
	struct ring *ring;

	(void) state;
	assert_int_equal(chmod(test_dir, 0755), 0);
	ring = _open();
	assert_non_null(ring);
	assert_int_not_equal(strncmp(ring->path, test_dir, strlen(test_dir)),
			     0);
	assert_non_null(strstr(test_log, "mode 0700"));
	(void) unlink(ring->path);
	ring_close(ring);
}

static void test_a_damaged_ring_makes_way_for_a_new_one(void **state)
{
	struct ring *ring = _open();
	char path[256];
	int fd;

	(void) state;
	snprintf(path, sizeof(path), "%s", ring->path);
	ring_close(ring);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, "garbage", 7), 7);
	(void) close(fd);
	ring = _open();
	assert_non_null(ring);
	assert_string_equal(ring->path, path);
	assert_non_null(strstr(test_log, "set aside as"));
	assert_int_equal(test_files(".damaged-"), 1);
	ring_close(ring);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_two_owners_have_two_rings),
		TEST(test_a_successor_takes_the_ring_of_the_dead),
		TEST(test_other_slurmctlds_have_other_rings),
		TEST(test_an_empty_orphan_is_left_alone),
		TEST(test_an_open_directory_is_not_used),
		TEST(test_a_damaged_ring_makes_way_for_a_new_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

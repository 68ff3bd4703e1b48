/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the plugin's unit tests share: a directory, a log, records to store. */
#ifndef CPLUGIN_TEST_SUPPORT_H
#define CPLUGIN_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plog.h"
#include "ring.h"

static char test_dir[64];
static int test_log_lines;
static char test_log[4096]; /* the last line */

static inline void test_sink(enum plog_level level, const char *line)
{
	if (level == PLOG_DEBUG)
		return;
	test_log_lines++;
	snprintf(test_log, sizeof(test_log), "%s", line);
}

/* A fresh directory and an empty log for each test. */
static inline int test_setup(void **state)
{
	(void) state;
	snprintf(test_dir, sizeof(test_dir), "/dev/shm/cplugin-test-XXXXXX");
	plog_sink = test_sink;
	test_log_lines = 0;
	test_log[0] = '\0';
	return mkdtemp(test_dir) ? 0 : -1;
}

static inline int test_teardown(void **state)
{
	DIR *dir = opendir(test_dir);
	struct dirent *entry;
	char path[400];

	(void) state;
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", test_dir, entry->d_name);
		(void) unlink(path);
	}
	if (dir)
		(void) closedir(dir);
	return rmdir(test_dir);
}

static inline const char *test_path(const char *name)
{
	static char path[400];

	snprintf(path, sizeof(path), "%s/%s", test_dir, name);
	return path;
}

/* How many files in the test's directory have text in their name. */
static inline int test_files(const char *text)
{
	DIR *dir = opendir(test_dir);
	struct dirent *entry;
	int n = 0;

	while (dir && (entry = readdir(dir)))
		n += strstr(entry->d_name, text) != NULL;
	if (dir)
		(void) closedir(dir);
	return n;
}

/* Record number n: its length and every byte follow from n. */
static inline uint32_t test_length(uint64_t n)
{
	return (uint32_t) (1 + n * 2654435761u % 900);
}

static inline void test_fill(uint64_t n, uint8_t *to)
{
	for (uint32_t i = 0; i < test_length(n); i++)
		to[i] = (uint8_t) (n * 31 + i);
}

static inline bool test_matches(uint64_t n, const struct ring_rec_head *head,
				const uint8_t *payload)
{
	uint8_t want[1024];

	test_fill(n, want);
	return (head->len == test_length(n)) &&
	       (head->job_id == (uint32_t) n) &&
	       !memcmp(payload, want, head->len);
}

/* Appends record n as the hook would; false when the ring is full. */
static inline bool test_append(struct ring *ring, uint64_t n)
{
	for (int wrapped = 0; wrapped < 2; wrapped++) {
		struct ring_rec_head head = {
			.len = test_length(n),
			.job_id = (uint32_t) n,
		};
		size_t room;
		uint8_t *to = ring_reserve(ring, wrapped, &room);

		if (!to || (room < head.len))
			continue;
		test_fill(n, to);
		ring_commit(ring, &head);
		return true;
	}
	ring_drop(ring, (uint32_t) n);
	return false;
}

/* Flips one bit of a file. */
static inline void test_flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	(void) close(fd);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plog.h"
#include "resizes.h"

#define RESIZES_KEPT 256

struct resize {
	uint32_t job_id; /* 0: none */
	int64_t at;
};

/* lock guards these three; nobody does I/O under it */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct resize kept[RESIZES_KEPT];
static size_t next; /* the oldest, to be overwritten */
static bool unsaved;

static int64_t _note(uint32_t job_id, int64_t now)
{
	int64_t before;

	for (size_t i = 0; i < RESIZES_KEPT; i++) {
		if (kept[i].job_id != job_id)
			continue;
		before = kept[i].at;
		kept[i].at = now;
		return before;
	}
	kept[next] = (struct resize) { .job_id = job_id, .at = now };
	next = (next + 1) % RESIZES_KEPT;
	return 0;
}

extern time_t resizes_note(uint32_t job_id, time_t started, time_t now)
{
	int64_t before;

	pthread_mutex_lock(&lock);
	before = _note(job_id, now);
	unsaved = true;
	pthread_mutex_unlock(&lock);
	/* of an earlier run, or of an earlier job with this id */
	return (before >= started) ? before : 0;
}

extern void resizes_load(const char *state_dir)
{
	char path[4400], line[64];
	FILE *file;
	int fd;

	snprintf(path, sizeof(path), "%s/" RESIZES_FILE, state_dir);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	file = fdopen(fd, "r");
	if (!file) {
		(void) close(fd);
		return;
	}
	pthread_mutex_lock(&lock);
	for (int n = 0; (n < RESIZES_KEPT) && fgets(line, sizeof(line), file);
	     n++) {
		uint32_t job_id;
		int64_t at;

		if ((sscanf(line, "%" SCNu32 " %" SCNd64, &job_id, &at) == 2) &&
		    job_id)
			(void) _note(job_id, at);
	}
	pthread_mutex_unlock(&lock);
	(void) fclose(file);
}

static bool _write(const char *path, const struct resize *all, size_t oldest)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW |
		      O_CLOEXEC | O_NONBLOCK, 0600);
	FILE *file = (fd < 0) ? NULL : fdopen(fd, "w");
	bool ok;

	if (!file) {
		if (fd >= 0)
			(void) close(fd);
		return false;
	}
	for (size_t n = 0; n < RESIZES_KEPT; n++) {
		const struct resize *one = &all[(oldest + n) % RESIZES_KEPT];

		if (one->job_id)
			fprintf(file, "%" PRIu32 " %" PRId64 "\n", one->job_id,
				one->at);
	}
	ok = !fflush(file) && !fdatasync(fd);
	return !fclose(file) && ok;
}

extern void resizes_save(const char *state_dir)
{
	char path[4400], new_path[4404];
	struct resize all[RESIZES_KEPT];
	size_t oldest;
	bool wanted;

	if (!state_dir[0])
		return;
	pthread_mutex_lock(&lock);
	wanted = unsaved;
	unsaved = false;
	oldest = next;
	if (wanted)
		memcpy(all, kept, sizeof(all));
	pthread_mutex_unlock(&lock);
	if (!wanted)
		return;
	snprintf(path, sizeof(path), "%s/" RESIZES_FILE, state_dir);
	snprintf(new_path, sizeof(new_path), "%s.new", path);
	if (!_write(new_path, all, oldest) || rename(new_path, path))
		plog_error("can't write %s: %s; jobs resized before and after the next restart may lose a part",
			   path, strerror(errno));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "crc32c.h"
#include "plog.h"
#include "ring_dir.h"

#define MAX_DIRS 14
#define MAX_RINGS 16 /* of one slurmctld in one directory */
#define DIR_BYTES 220

/* Directories where a ring may lie, best first. Returns how many. */
static int _candidates(char dirs[MAX_DIRS][DIR_BYTES], const char *wanted_dir,
		       const char *state_dir)
{
	int n = 0;

	if (wanted_dir[0])
		snprintf(dirs[n++], DIR_BYTES, "%s", wanted_dir);
	snprintf(dirs[n++], DIR_BYTES, "/run/slurmjcd-ring");
	/* anyone may take a name in /dev/shm first, hardly all of them */
	for (int i = 0; i < 10; i++)
		snprintf(dirs[n++], DIR_BYTES, "/dev/shm/slurmjcd-%u.%d",
			 (unsigned) geteuid(), i);
	if (state_dir[0] && (strlen(state_dir) < DIR_BYTES))
		snprintf(dirs[n++], DIR_BYTES, "%s", state_dir);
	return n;
}

static bool _on_tmpfs(const char *dir)
{
	struct statfs fs;

	return !statfs(dir, &fs) && ((fs.f_type == TMPFS_MAGIC) ||
				     (fs.f_type == RAMFS_MAGIC));
}

/* True when dir is (or was made) a directory that only we can enter. */
static bool _usable(const char *dir, bool is_state_dir, bool make)
{
	struct stat st;

	if (make && mkdir(dir, 0700) && (errno != EEXIST))
		return false;
	if (lstat(dir, &st) || !S_ISDIR(st.st_mode) ||
	    (st.st_uid != geteuid()))
		return false;
	/* rings are 0600 anyway; nobody else may rename or remove them */
	return is_state_dir ? !(st.st_mode & 022) : !(st.st_mode & 077);
}

static void _ring_path(char *path, size_t size, const char *dir,
		       const char *state_dir, const char *cluster, int n)
{
	char key[4096];
	int len = snprintf(key, sizeof(key), "%s %s", cluster, state_dir);

	if (len >= (int) sizeof(key))
		len = sizeof(key) - 1;
	snprintf(path, size, "%.219s/%08x.%d.ring", dir,
		 crc32c(key, (size_t) len), n);
}

/* A new source's name: the host's, for people, and 64 random bits. */
static void _new_id(char id[RING_ID_BYTES])
{
	char host[25] = "";
	uint64_t random = 0;

	(void) gethostname(host, sizeof(host) - 1);
	for (char *p = host; *p; p++) {
		bool plain = ((*p >= '0') && (*p <= '9')) ||
			     ((*p >= 'a') && (*p <= 'z')) ||
			     ((*p >= 'A') && (*p <= 'Z')) || (*p == '-');

		if (*p == '.')
			*p = '\0';
		else if (!plain)
			*p = '_';
		if (!*p)
			break;
	}
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) !=
	    sizeof(random))
		random = (uint64_t) plog_now_ms() << 22 ^ (uint64_t) getpid();
	snprintf(id, RING_ID_BYTES, "%s-%016llx", host[0] ? host : "slurmctld",
		 (unsigned long long) random);
}

static struct ring *_open_in(const char *dir, const char *state_dir,
			     const char *cluster, uint64_t data_bytes)
{
	char path[256], why[512], id[RING_ID_BYTES];

	for (int i = 0; i < MAX_RINGS; i++) {
		struct ring *ring;
		enum ring_open_result result;

		_ring_path(path, sizeof(path), dir, state_dir, cluster, i);
		_new_id(id);
		result = ring_open(&ring, path, data_bytes, id, true, why,
				   sizeof(why));
		if (result == RING_DAMAGED) {
			plog_error("%s", why);
			result = ring_open(&ring, path, data_bytes, id, true,
					   why, sizeof(why));
		}
		if (result == RING_OPENED)
			return ring;
		if (result != RING_BUSY) {
			plog_error("%s", why);
			return NULL;
		}
	}
	plog_error("%d processes own a ring in %s already", MAX_RINGS, dir);
	return NULL;
}

extern struct ring *ring_dir_open(const char *wanted_dir,
				  const char *state_dir, const char *cluster,
				  uint64_t data_bytes)
{
	char dirs[MAX_DIRS][DIR_BYTES], id[RING_ID_BYTES];
	int n = _candidates(dirs, wanted_dir, state_dir);
	struct ring *ring;

	for (int i = 0; i < n; i++) {
		bool is_state_dir = !strcmp(dirs[i], state_dir);
		bool is_wanted = wanted_dir[0] && !i;

		if (!is_wanted && !is_state_dir &&
		    !_on_tmpfs((dirs[i][1] == 'r') ? "/run" : "/dev/shm"))
			continue;
		if (!_usable(dirs[i], is_state_dir, !is_state_dir)) {
			if (is_wanted)
				plog_error("JobCompParams: ring_dir=%s must be a directory of uid %u with mode 0700, choosing another",
					   dirs[i], (unsigned) geteuid());
			continue;
		}
		if (!_on_tmpfs(dirs[i]))
			plog_error("ring in %s, which is not on tmpfs: the record hook will wait for the disk at times",
				   dirs[i]);
		if ((ring = _open_in(dirs[i], state_dir, cluster, data_bytes)))
			return ring;
	}
	plog_error("no directory for the ring, records in it will not outlive this process");
	_new_id(id);
	return ring_private(data_bytes, id);
}

extern struct ring *ring_dir_adopt(const char *wanted_dir,
				   const char *state_dir, const char *cluster)
{
	char dirs[MAX_DIRS][DIR_BYTES], path[256], why[512];
	int n = _candidates(dirs, wanted_dir, state_dir);

	for (int i = 0; i < n; i++) {
		if (!_usable(dirs[i], !strcmp(dirs[i], state_dir), false))
			continue;
		for (int k = 0; k < MAX_RINGS; k++) {
			struct ring *ring;
			enum ring_open_result result;

			_ring_path(path, sizeof(path), dirs[i], state_dir,
				   cluster, k);
			if (ring_file_empty(path))
				continue;
			result = ring_open(&ring, path, 0, "", false, why,
					   sizeof(why));
			if (result == RING_DAMAGED)
				plog_error("%s", why);
			if (result != RING_OPENED)
				continue;
			if (ring_used(ring))
				return ring;
			ring_close(ring);
		}
	}
	return NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record.h"
#include "script.h"

#define CUT ",script"

/* The extra map as it is rebuilt. */
struct rebuild {
	struct mp_writer *writer;
	bool cut; /* the script was longer than it may be */
	uint32_t pairs;
};

static bool _count_pair(void *arg, struct jc_slice key, struct mp_reader value)
{
	struct rebuild *rebuild = arg;

	(void) key;
	(void) value;
	rebuild->pairs++;
	return true;
}

static bool _is_truncated(struct jc_slice key)
{
	return (key.n == strlen("truncated")) &&
	       !memcmp(key.p, "truncated", key.n);
}

static bool _copy_pair(void *arg, struct jc_slice key, struct mp_reader value)
{
	struct rebuild *rebuild = arg;
	struct mp_reader behind = value;
	struct mp_value old;
	char list[1024];

	mp_write_str(rebuild->writer, key.p, key.n);
	if (rebuild->cut && _is_truncated(key) && mp_read(&behind, &old) &&
	    (old.type == MP_STR) && (old.n + sizeof(CUT) < sizeof(list))) {
		memcpy(list, old.p, old.n);
		memcpy(list + old.n, CUT, sizeof(CUT));
		mp_write_str(rebuild->writer, list, strlen(list));
		return true;
	}
	behind = value;
	(void) mp_skip(&behind);
	mp_write_raw(rebuild->writer, value.pos,
		     (size_t) (behind.pos - value.pos));
	return true;
}

static bool _has_truncated(void *arg, struct jc_slice key,
			   struct mp_reader value)
{
	(void) value;
	*(bool *) arg |= _is_truncated(key);
	return true;
}

/* The script's bytes up to one more than a record takes; -1: there is none. */
static ssize_t _read_script(const char *state_dir,
			    const struct jc_record *record, char *to)
{
	bool is_task = record->number[JC_FIELD_ARRAY_TASK_ID].known;
	uint32_t id = (uint32_t) record->number[
		is_task ? JC_FIELD_ARRAY_JOB_ID : JC_FIELD_JOB_ID].value;
	size_t size = JC_EXTRA_SCRIPT_MAX_BYTES + 1, len = 0;
	char path[4200];
	ssize_t n = 1;
	int fd;

	snprintf(path, sizeof(path), "%s/hash.%u/job.%u/script", state_dir,
		 id % 10, id);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -1;
	while ((len < size) && ((n = read(fd, to + len, size - len)) > 0))
		len += (size_t) n;
	(void) close(fd);
	if (n < 0)
		return -1;
	/* slurmctld ends it with a NUL, and a record holds none */
	return (ssize_t) strnlen(to, len);
}

extern size_t script_add(const char *state_dir,
			 const struct ring_rec_head *head,
			 const uint8_t *payload, const char *user,
			 const char *group, uint8_t *to, size_t room)
{
	static char script[JC_EXTRA_SCRIPT_MAX_BYTES + 1]; /* one sender */
	struct rebuild rebuild = { 0 };
	struct jc_record record;
	struct mp_writer writer;
	bool has_truncated = false;
	ssize_t len;

	if (jc_record_decode(&record, payload, head->len) ||
	    ((len = _read_script(state_dir, &record, script)) <= 0))
		return 0;
	if (len > JC_EXTRA_SCRIPT_MAX_BYTES) {
		len = JC_EXTRA_SCRIPT_MAX_BYTES;
		while ((len > JC_EXTRA_SCRIPT_MAX_BYTES - 3) &&
		       (((uint8_t) script[len] & 0xc0) == 0x80))
			len--;
		rebuild.cut = true;
	}
	if (user && !record.string[JC_FIELD_USER].p)
		record.string[JC_FIELD_USER] =
			(struct jc_slice) { user, (uint32_t) strlen(user) };
	if (group && !record.string[JC_FIELD_GROUP].p)
		record.string[JC_FIELD_GROUP] =
			(struct jc_slice) { group, (uint32_t) strlen(group) };

	mp_writer_init(&writer, to, room);
	rebuild.writer = &writer;
	jc_record_encode_fields(&writer, &record);
	jc_extra_each(record.extra, _count_pair, &rebuild);
	jc_extra_each(record.extra, _has_truncated, &has_truncated);
	mp_write_map(&writer, rebuild.pairs + 1 +
		     ((rebuild.cut && !has_truncated) ? 1 : 0));
	jc_extra_each(record.extra, _copy_pair, &rebuild);
	mp_write_str(&writer, "script", strlen("script"));
	mp_write_str(&writer, script, (size_t) len);
	if (rebuild.cut && !has_truncated) {
		mp_write_str(&writer, "truncated", strlen("truncated"));
		mp_write_str(&writer, CUT + 1, strlen(CUT + 1));
	}
	return writer.full ? 0 : (size_t) (writer.pos - to);
}

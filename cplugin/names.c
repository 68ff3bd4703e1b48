/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "names.h"
#include "plog.h"

#define SLOTS 1024
#define NAME_BYTES 256
#define KEEP_MS 600000   /* a name */
#define KEEP_NO_MS 30000 /* that there is none, or NSS could not say */

struct entry {
	int64_t until_ms; /* 0: empty */
	uint32_t id;
	bool known;
	char name[NAME_BYTES];
};

static struct entry users[SLOTS], groups[SLOTS];

static bool _ask_user(uint32_t id, char *name)
{
	char buf[16384];
	struct passwd pwd, *found = NULL;

	if (getpwuid_r(id, &pwd, buf, sizeof(buf), &found) || !found)
		return false;
	return snprintf(name, NAME_BYTES, "%s", pwd.pw_name) < NAME_BYTES;
}

static bool _ask_group(uint32_t id, char *name)
{
	char buf[65536]; /* groups carry their members */
	struct group grp, *found = NULL;

	if (getgrgid_r(id, &grp, buf, sizeof(buf), &found) || !found)
		return false;
	return snprintf(name, NAME_BYTES, "%s", grp.gr_name) < NAME_BYTES;
}

static const char *_lookup(struct entry *table, uint32_t id,
			   bool (*ask)(uint32_t id, char *name))
{
	struct entry *entry = &table[(id * 2654435761u) % SLOTS];
	int64_t now = plog_now_ms();

	if (!entry->until_ms || (entry->id != id) || (now > entry->until_ms)) {
		entry->id = id;
		entry->known = ask(id, entry->name) && entry->name[0];
		entry->until_ms = now + (entry->known ? KEEP_MS : KEEP_NO_MS);
	}
	return entry->known ? entry->name : NULL;
}

extern const char *names_user(uint32_t uid)
{
	return _lookup(users, uid, _ask_user);
}

extern const char *names_group(uint32_t gid)
{
	return _lookup(groups, gid, _ask_group);
}

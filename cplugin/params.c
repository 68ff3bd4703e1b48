/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "params.h"
#include "plog.h"

#define SHOWN 60 /* characters of a wrong value that the log repeats */

/* A copy that a log line can hold: short, control characters as '?'. */
static const char *_shown(char *to, const char *value, size_t len)
{
	size_t i;

	for (i = 0; (i < len) && (i < SHOWN); i++)
		to[i] = ((value[i] >= ' ') && (value[i] < 0x7f)) ?
			value[i] : '?';
	to[i] = '\0';
	if (len > SHOWN)
		memcpy(to + SHOWN - 3, "...", 3);
	return to;
}

static void _set_loc(struct params *params, const char *loc)
{
	static const char longest[] = "/ingest.sock";
	char shown[SHOWN + 1];
	size_t len = loc ? strlen(loc) : 0;

	if (!len) {
		loc = PARAMS_DEFAULT_LOC;
	} else if (loc[0] != '/') {
		plog_error("JobCompLoc=%s is no absolute path of the directory with the daemon's sockets, using %s",
			   _shown(shown, loc, len), PARAMS_DEFAULT_LOC);
		loc = PARAMS_DEFAULT_LOC;
	} else if (len + sizeof(longest) > PARAMS_PATH_BYTES) {
		plog_error("JobCompLoc=%s has %zu characters, a socket's path leaves room for %zu, using %s",
			   _shown(shown, loc, len), len,
			   PARAMS_PATH_BYTES - sizeof(longest),
			   PARAMS_DEFAULT_LOC);
		loc = PARAMS_DEFAULT_LOC;
	}
	len = strlen(loc);
	while ((len > 1) && (loc[len - 1] == '/'))
		len--;
	snprintf(params->ingest_path, sizeof(params->ingest_path),
		 "%.*s/ingest.sock", (int) len, loc);
	snprintf(params->query_path, sizeof(params->query_path),
		 "%.*s/query.sock", (int) len, loc);
}

/* A whole decimal number within bounds; anything else leaves *out alone. */
static void _set_number(uint32_t *out, const char *key, const char *value,
			size_t len, uint32_t min, uint32_t max)
{
	char shown[SHOWN + 1];
	uint64_t n = 0;
	size_t i;

	for (i = 0; (i < len) && (i < 10); i++) {
		if ((value[i] < '0') || (value[i] > '9'))
			break;
		n = n * 10 + (uint64_t) (value[i] - '0');
	}
	if (!len || (i < len) || (n < min) || (n > max)) {
		plog_error("JobCompParams: %s=%s is not a number from %u to %u, using %u",
			   key, _shown(shown, value, len), min, max, *out);
		return;
	}
	*out = (uint32_t) n;
}

static void _set_ring_dir(struct params *params, const char *value,
			  size_t len)
{
	char shown[SHOWN + 1];

	if (!len || (value[0] != '/') || (len >= sizeof(params->ring_dir))) {
		plog_error("JobCompParams: ring_dir=%s is not an absolute path of at most %zu characters, choosing a directory",
			   _shown(shown, value, len),
			   sizeof(params->ring_dir) - 1);
		return;
	}
	snprintf(params->ring_dir, sizeof(params->ring_dir), "%.*s", (int) len,
		 value);
}

/* Bytes that no user's name has would come out in a later log line. */
static bool _is_word(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((value[i] <= ' ') || (value[i] >= 0x7f))
			return false;
	return len > 0;
}

static void _set_user(struct params *params, const char *value, size_t len)
{
	char shown[SHOWN + 1], stays[SHOWN + 1];

	if (!_is_word(value, len) || (len >= sizeof(params->daemon_user))) {
		plog_error("JobCompParams: daemon_user=%s is no user's name or uid, using %s",
			   _shown(shown, value, len),
			   _shown(stays, params->daemon_user,
				  strlen(params->daemon_user)));
		return;
	}
	snprintf(params->daemon_user, sizeof(params->daemon_user), "%.*s",
		 (int) len, value);
}

/* The options; those before STORE_SCRIPT take a value. */
enum option {
	RING_DIR, RING_MIB, SPILL_MIB, TIMEOUT, DAEMON_USER,
	STORE_SCRIPT, ENABLE_JOB_FINISH, ENABLE_JOB_START, UNKNOWN
};

static const char *const option_names[UNKNOWN] = {
	"ring_dir", "ring_mib", "spill_mib", "timeout", "daemon_user",
	"store_script",
	"enable_job_finish", "enable_job_start", /* Slurm's own, from 25.05 on */
};

static enum option _which(const char *key, size_t len, bool has_value)
{
	for (unsigned i = 0; i < UNKNOWN; i++)
		if ((strlen(option_names[i]) == len) &&
		    !memcmp(key, option_names[i], len) &&
		    (has_value == (i < STORE_SCRIPT)))
			return (enum option) i;
	return UNKNOWN;
}

static void _set_option(struct params *params, const char *text, size_t len,
			uint8_t given[UNKNOWN])
{
	const char *equals = memchr(text, '=', len);
	size_t key_len = equals ? (size_t) (equals - text) : len;
	const char *value = equals ? equals + 1 : text + len;
	size_t value_len = (size_t) (text + len - value);
	enum option option = _which(text, key_len, equals);
	char shown[SHOWN + 1];

	/* said once, however often it is there */
	if ((option != UNKNOWN) && (given[option] < 2) &&
	    (++given[option] == 2))
		plog_error("JobCompParams: %s is given more than once, the last one counts",
			   option_names[option]);
	switch (option) {
	case RING_DIR:
		_set_ring_dir(params, value, value_len);
		break;
	case RING_MIB:
		_set_number(&params->ring_mib, "ring_mib", value, value_len,
			    1, 1024);
		break;
	case SPILL_MIB:
		_set_number(&params->spill_mib, "spill_mib", value, value_len,
			    0, 1048576);
		break;
	case TIMEOUT:
		_set_number(&params->timeout_s, "timeout", value, value_len,
			    1, 3600);
		break;
	case DAEMON_USER:
		_set_user(params, value, value_len);
		break;
	case STORE_SCRIPT:
		params->store_script = true;
		break;
	case ENABLE_JOB_FINISH:
	case ENABLE_JOB_START:
		break;
	case UNKNOWN:
		plog_error("JobCompParams: unknown option %s, expected ring_dir=, ring_mib=, spill_mib=, timeout=, daemon_user= or store_script",
			   _shown(shown, text, len));
	}
}

extern void params_parse(struct params *params, const char *loc,
			 const char *options)
{
	uint8_t given[UNKNOWN] = { 0 };

	*params = (struct params) {
		.ring_mib = 32,
		.spill_mib = 1024,
		.timeout_s = 10,
		.daemon_user = PARAMS_DEFAULT_USER,
	};
	_set_loc(params, loc);
	while (options && *options) {
		size_t len = strcspn(options, ",");

		if (len)
			_set_option(params, options, len, given);
		options += len + (options[len] == ',');
	}
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "plog.h"

static void _to_stderr(enum plog_level level, const char *line)
{
	if (level != PLOG_DEBUG)
		fprintf(stderr, "jobcomp/redis: %s\n", line);
}

void (*plog_sink)(enum plog_level level, const char *line) = _to_stderr;

extern void plog(enum plog_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* a line may quote what the daemon said, and stays one line */
	for (char *p = line; *p; p++)
		if (((unsigned char) *p < ' ') || (*p == 0x7f))
			*p = '?';
	plog_sink(level, line);
}

extern int64_t plog_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

extern bool plog_allow(struct plog_limit *limit, int64_t interval_ms)
{
	int64_t now = plog_now_ms();

	if (limit->next_ms && (now < limit->next_ms)) {
		limit->held++;
		return false;
	}
	limit->next_ms = now + interval_ms;
	limit->held = 0;
	return true;
}

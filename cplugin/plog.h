/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the plugin's own files send their messages. They do not call Slurm's
 * log themselves, so that ring, spill and sender run in unit tests without
 * Slurm; the glue points plog_sink at error(), info() and debug().
 */
#ifndef JOBCOMP_REDIS_PLOG_H
#define JOBCOMP_REDIS_PLOG_H

#include <stdbool.h>
#include <stdint.h>

enum plog_level { PLOG_ERROR, PLOG_INFO, PLOG_DEBUG };

/* Takes one finished line without newline; default writes it to stderr. */
extern void (*plog_sink)(enum plog_level level, const char *line);

extern void plog(enum plog_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define plog_error(...) plog(PLOG_ERROR, __VA_ARGS__)
#define plog_info(...) plog(PLOG_INFO, __VA_ARGS__)
#define plog_debug(...) plog(PLOG_DEBUG, __VA_ARGS__)

/* One message at most per interval; counts what it held back. */
struct plog_limit {
	int64_t next_ms;
	uint32_t held;
};

/* True when a message may go out now (monotonic ms). */
extern bool plog_allow(struct plog_limit *limit, int64_t interval_ms);

/* Monotonic milliseconds. */
extern int64_t plog_now_ms(void);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sender's state, shared by sender.c (thread), delivery.c (requests) and replies.c. */
#ifndef JOBCOMP_REDIS_SENDER_INTERNAL_H
#define JOBCOMP_REDIS_SENDER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "resp.h"
#include "plog.h"
#include "sender.h"
#include "source.h"

#define MAX_SOURCES 20     /* rings and spill files of one slurmctld */
#define MAX_IN_FLIGHT 32   /* requests without reply */
#define BATCH_RECORDS 500 /* as many as the module decodes at once */
#define BATCH_BYTES ((size_t) 512 << 10)
#define CONNECT_MS 2000    /* until HELLO is answered */
#define REPLY_MS 5000      /* until any other reply */
#define DELIVERY_LOG_MS 60000 /* between messages of one kind */
#define TELL_MS 30000      /* counters at least this often */

enum request_kind { REQUEST_HELLO, REQUEST_RING, REQUEST_PUT };

struct request {
	enum request_kind kind;
	int64_t sent_ms;
	/* REQUEST_PUT */
	uint64_t wire_seq;
	uint32_t count;
	struct source_cursor begin;
	struct source_cursor end;
};

enum link_state { LINK_DOWN, LINK_HELLO, LINK_READY };

struct sender {
	pthread_t thread;
	int wake_fd;
	_Atomic bool sleeping;
	_Atomic bool stop;
	/* config_lock guards these three; nobody does I/O under it */
	pthread_mutex_t config_lock;
	struct sender_config next_config;
	bool config_changed;
	/* done_lock guards done */
	pthread_mutex_t done_lock;
	pthread_cond_t done_cond;
	bool done;
	bool abandoned; /* the thread frees the sender itself */

	/* everything below is the thread's own */
	struct sender_config config;
	struct source sources[MAX_SOURCES]; /* [0] is the hook's ring */
	int source_count;

	struct resp conn;
	enum link_state link;
	size_t max_request_bytes;
	int64_t retry_ms;   /* no attempt before this time */
	int64_t backoff_ms;
	int64_t progress_ms; /* last time a reply came in */
	int64_t acked_ms;    /* last time a record was acknowledged, or none
			      * waited for that */
	int64_t connected_ms; /* first time since then that a connection was made */
	bool told_down;      /* the log knows that the daemon is away */

	struct request requests[MAX_IN_FLIGHT];
	unsigned request_first, request_count;
	bool rewinding;      /* something was refused: start over when the
			      * replies that are under way are in */
	bool renumber;       /* ... as a new generation */
	bool hole;           /* ... behind the damage before hole_end */
	bool refused;        /* ... without the record before hole_end */
	uint64_t hole_seq;   /* first record of either */
	struct source_cursor hole_end;
	uint32_t batch_records; /* at most; less after TOOBIG */
	int current;         /* the source that requests are about */
	struct source_cursor send; /* next record to put into a batch */

	int64_t scan_ms;     /* next look for orphans */
	int64_t spill_retry_ms;
	uint64_t told_dropped; /* of the log */
	uint32_t random;
	struct plog_limit drop_limit, link_limit, refuse_limit, spill_limit;
};

/* ---- delivery.c ---- */

/* Sends and receives what can be without waiting. */
extern void delivery_step(struct sender *sender);

/* Milliseconds until delivery_step has something to do by itself. */
extern int delivery_wait_ms(const struct sender *sender);

/* Closes the connection; the next attempt follows after a pause. */
extern void delivery_down(struct sender *sender, const char *why);

/* The same without a word and without a pause: nothing is wrong with it. */
extern void delivery_restart(struct sender *sender);

/* ---- replies.c ---- */

/* Takes the reply to the oldest request that is under way. */
extern void delivery_reply(struct sender *sender, const redisReply *reply);

/* ---- delivery.c, for replies.c ---- */

/* The next pause: doubles up to a second, and a random part of that, so that
 * many controllers don't come back in step. Milliseconds. */
extern int64_t delivery_next_pause(struct sender *sender);

/* True when every record of every source is acknowledged. */
extern bool delivery_done(const struct sender *sender);

#endif

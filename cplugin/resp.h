/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection to a socket of the daemon that never blocks: requests are put
 * into a buffer, replies are parsed by hiredis' reader. The socket is ours, not
 * a redisContext's, since hiredis neither closes it on exec (slurmctld starts
 * scripts all the time) nor sends without SIGPIPE.
 */
#ifndef JOBCOMP_REDIS_RESP_H
#define JOBCOMP_REDIS_RESP_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct resp {
	int fd; /* -1: not connected */
	redisReader *reader;
	size_t reply_bytes; /* fed since the last whole reply */
	size_t reply_max;   /* more than that is no reply of the daemon's */
	/* builds replies out of what the reader finds; NULL: redisReply */
	redisReplyObjectFunctions *objects;
	void *privdata; /* for objects */
	const char *daemon_user; /* who may serve the socket besides root, by
				  * name or uid; NULL: anybody */
	int connect_ms; /* wait so long where the backlog is full; 0: don't */
	uint8_t *out;
	size_t out_size;
	size_t out_len;
	size_t out_sent;
	char why[256]; /* of the last failure */
};

extern void resp_init(struct resp *conn, size_t reply_max);
extern void resp_fini(struct resp *conn);

/*
 * Connects, and sees that root or daemon_user listens there: whoever took the
 * socket's place would be told what the daemon is told, and believed. False
 * with conn->why and errno when that failed.
 */
extern bool resp_open(struct resp *conn, const char *path);
extern void resp_close(struct resp *conn);

/* Appends to what is to be sent; false when there is no memory. */
extern bool resp_put(struct resp *conn, const void *bytes, size_t n);

/* Appends a request's head of argc arguments, one argument. */
extern bool resp_put_array(struct resp *conn, size_t argc);
extern bool resp_put_bulk(struct resp *conn, const void *bytes, size_t n);
extern bool resp_put_text(struct resp *conn, const char *text);
extern bool resp_put_number(struct resp *conn, uint64_t n);

/* True while something is waiting to be sent. */
static inline bool resp_pending(const struct resp *conn)
{
	return conn->out_sent < conn->out_len;
}

/* Sends what the socket takes. False: broken, see conn->why. */
extern bool resp_flush(struct resp *conn);

/*
 * Reads some of what there is; poll() says whether that was all. False: broken
 * or closed, see conn->why.
 */
extern bool resp_fill(struct resp *conn);

/*
 * The next whole reply, NULL when there is none yet: a redisReply for
 * freeReplyObject, or what objects made. *broken is set when the bytes are no
 * RESP.
 */
extern void *resp_reply(struct resp *conn, bool *broken);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "resp.h"

#define READ_BYTES 65536
#define ARRAY_MAX 256 /* elements of a reply; HELLO's has ten or so */

extern void resp_init(struct resp *conn, size_t reply_max)
{
	memset(conn, 0, sizeof(*conn));
	conn->fd = -1;
	conn->reply_max = reply_max;
}

extern void resp_fini(struct resp *conn)
{
	resp_close(conn);
	free(conn->out);
	conn->out = NULL;
	conn->out_size = 0;
}

extern void resp_close(struct resp *conn)
{
	if (conn->fd >= 0)
		(void) close(conn->fd);
	conn->fd = -1;
	if (conn->reader)
		redisReaderFree(conn->reader);
	conn->reader = NULL;
	conn->out_len = conn->out_sent = 0;
	conn->reply_bytes = 0;
}

static bool _fail(struct resp *conn, const char *what, int error)
{
	snprintf(conn->why, sizeof(conn->why), "%s%s%s", what,
		 error ? ": " : "", error ? strerror(error) : "");
	return false;
}

#if HIREDIS_MAJOR >= 1
typedef size_t elements_t;
#else
typedef int elements_t;
#endif

static redisReplyObjectFunctions hiredis_objects, small_objects;

/* hiredis allocates as many elements as a reply announces. */
static void *_small_array(const redisReadTask *task, elements_t elements)
{
	return (elements <= ARRAY_MAX) ?
	       hiredis_objects.createArray(task, elements) : NULL;
}

static void _choose_objects(struct resp *conn)
{
	if (conn->objects) {
		conn->reader->fn = conn->objects;
		conn->reader->privdata = conn->privdata;
		return;
	}
	hiredis_objects = small_objects = *conn->reader->fn;
	small_objects.createArray = _small_array;
	conn->reader->fn = &small_objects;
}

/* Sets how long connect() may wait for room; the kernel has a queue. */
static void _wait_in_line(struct resp *conn)
{
	struct timeval tv = {
		.tv_sec = conn->connect_ms / 1000,
		.tv_usec = conn->connect_ms % 1000 * 1000,
	};

	if (conn->connect_ms)
		(void) setsockopt(conn->fd, SOL_SOCKET, SO_SNDTIMEO, &tv,
				  sizeof(tv));
}

static bool _never_block(struct resp *conn)
{
	int flags = fcntl(conn->fd, F_GETFL);

	if ((flags >= 0) && !fcntl(conn->fd, F_SETFL, flags | O_NONBLOCK))
		return true;
	return _fail(conn, "can't make the socket non-blocking", errno);
}

/* The uid of a user given by name or number. */
static bool _uid_of(const char *user, uid_t *uid)
{
	struct passwd entry, *found = NULL;
	char buffer[4096], *end;
	unsigned long number = strtoul(user, &end, 10);

	if (*user && !*end) {
		*uid = (uid_t) number;
		return true;
	}
	if (getpwnam_r(user, &entry, buffer, sizeof(buffer), &found) || !found)
		return false;
	*uid = found->pw_uid;
	return true;
}

/*
 * Who listens: the kernel's note of who called listen(), which is root where
 * systemd made the socket.
 */
static bool _is_the_daemons(struct resp *conn)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	uid_t uid;

	if (!conn->daemon_user)
		return true;
	if (getsockopt(conn->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return _fail(conn, "can't tell who listens", errno);
	if (!peer.uid || (_uid_of(conn->daemon_user, &uid) &&
			  (peer.uid == uid)))
		return true;
	snprintf(conn->why, sizeof(conn->why),
		 "uid %u listens there, which is neither root nor %s: set daemon_user= in JobCompParams if that is the daemon's",
		 (unsigned) peer.uid, conn->daemon_user);
	return false;
}

extern bool resp_open(struct resp *conn, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int error;

	resp_close(conn);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	conn->reader = redisReaderCreate();
	if (conn->reader) {
		conn->reader->maxbuf = 0; /* keep the buffer between reads */
		_choose_objects(conn);
	}
	conn->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
			  (conn->connect_ms ? 0 : SOCK_NONBLOCK), 0);
	if (conn->fd >= 0)
		_wait_in_line(conn);
	if (!conn->reader || (conn->fd < 0)) {
		_fail(conn, "can't make a socket", errno);
	} else if (!connect(conn->fd, (struct sockaddr *) &addr,
			    sizeof(addr))) {
		if (_is_the_daemons(conn) && _never_block(conn))
			return true;
		errno = EACCES;
	} else {
		/*
		 * A Unix socket is connected at once or not at all; EAGAIN is
		 * a daemon that does not accept (stopped, or swamped).
		 */
		_fail(conn, "can't connect", errno);
	}
	error = errno;
	resp_close(conn);
	errno = error;
	return false;
}

extern bool resp_put(struct resp *conn, const void *bytes, size_t n)
{
	if (conn->out_len + n > conn->out_size) {
		size_t size = (conn->out_size ? conn->out_size : 65536);
		uint8_t *out;

		while (size < conn->out_len + n)
			size *= 2;
		if (!(out = realloc(conn->out, size)))
			return false;
		conn->out = out;
		conn->out_size = size;
	}
	memcpy(conn->out + conn->out_len, bytes, n);
	conn->out_len += n;
	return true;
}

static bool _put_line(struct resp *conn, char type, size_t n)
{
	char line[32];
	char *p = line + sizeof(line);

	*--p = '\n';
	*--p = '\r';
	do {
		*--p = (char) ('0' + n % 10);
	} while (n /= 10);
	*--p = type;
	return resp_put(conn, p, (size_t) (line + sizeof(line) - p));
}

extern bool resp_put_array(struct resp *conn, size_t argc)
{
	return _put_line(conn, '*', argc);
}

extern bool resp_put_bulk(struct resp *conn, const void *bytes, size_t n)
{
	return _put_line(conn, '$', n) && resp_put(conn, bytes, n) &&
	       resp_put(conn, "\r\n", 2);
}

extern bool resp_put_text(struct resp *conn, const char *text)
{
	return resp_put_bulk(conn, text, strlen(text));
}

extern bool resp_put_number(struct resp *conn, uint64_t n)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%llu", (unsigned long long) n);

	return resp_put_bulk(conn, text, (size_t) len);
}

extern bool resp_flush(struct resp *conn)
{
	while (resp_pending(conn)) {
		ssize_t n = send(conn->fd, conn->out + conn->out_sent,
				 conn->out_len - conn->out_sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			conn->out_sent += (size_t) n;
		} else if ((errno == EAGAIN) || (errno == EWOULDBLOCK)) {
			return true;
		} else if (errno != EINTR) {
			return _fail(conn, "can't send", errno);
		}
	}
	conn->out_len = conn->out_sent = 0;
	return true;
}

extern bool resp_fill(struct resp *conn)
{
	char buf[READ_BYTES];
	ssize_t n;

	do
		n = recv(conn->fd, buf, sizeof(buf), MSG_DONTWAIT);
	while ((n < 0) && (errno == EINTR));
	/* reset: it went without reading what we had sent */
	if (!n || ((n < 0) && (errno == ECONNRESET)))
		return _fail(conn, "the daemon closed the connection", 0);
	if (n < 0)
		return ((errno == EAGAIN) || (errno == EWOULDBLOCK)) ||
		       _fail(conn, "can't receive", errno);
	conn->reply_bytes += (size_t) n;
	if (conn->reply_bytes > conn->reply_max)
		return _fail(conn, "reply without end", 0);
	if (redisReaderFeed(conn->reader, buf, (size_t) n) != REDIS_OK)
		return _fail(conn, conn->reader->errstr, 0);
	return true;
}

extern void *resp_reply(struct resp *conn, bool *broken)
{
	void *reply = NULL;

	*broken = false;
	if (redisReaderGetReply(conn->reader, &reply) != REDIS_OK) {
		_fail(conn, conn->reader->errstr, 0);
		*broken = true;
		return NULL;
	}
	if (reply)
		conn->reply_bytes = 0;
	return reply;
}

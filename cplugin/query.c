/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "criteria.h"
#include "plog.h"
#include "query.h"
#include "query_dedup.h"
#include "query_het.h"
#include "query_row.h"
#include "resp.h"

#define PAGE_JOBS 10000            /* the daemon stops a page at 1 MiB anyway */
#define REPLY_MAX ((size_t) 64 << 20)
#define QUERY_ID "sacct"           /* private to the connection */

/* What a reply amounts to; records in it go straight into the list. */
struct query_reply {
	int type; /* REDIS_REPLY_* */
	size_t elements;
	char text[512]; /* of an error */
};

struct query {
	const struct params *params;
	struct resp conn;
	struct query_reply reply;
	jc_list_t *jobs;
	struct row_memory memory;
	bool one_run_each; /* no --duplicates */
	struct dedup dedup;
	struct het het;  /* --whole-hetjob */
	bool fetching;   /* strings inside an array are records */
	bool asked_on;   /* the page behind this one is asked for */
	const char *bad; /* what was wrong with one of them */
	char why[700];
};

/* ---- requests ---- */

static bool _put_hello(struct resp *conn)
{
	return resp_put_array(conn, 3) &&
	       resp_put_text(conn, "SLURMJC.HELLO") &&
	       resp_put_text(conn, "1") &&
	       resp_put_text(conn, "jobcomp_redis/" SLURM_VERSION_STRING);
}

static bool _put_match(struct resp *conn, const struct criteria *criteria)
{
	bool ok = resp_put_array(conn, 2 + criteria->argc) &&
		  resp_put_text(conn, "SLURMJC.MATCH") &&
		  resp_put_text(conn, QUERY_ID);

	for (size_t i = 0; ok && (i < criteria->argc); i++)
		ok = resp_put_text(conn, criteria->argv[i]);
	return ok;
}

static bool _put_fetch(struct resp *conn)
{
	return resp_put_array(conn, 4) &&
	       resp_put_text(conn, "SLURMJC.FETCH") &&
	       resp_put_text(conn, QUERY_ID) &&
	       resp_put_number(conn, PAGE_JOBS) &&
	       resp_put_text(conn, "RECORDS");
}

/* ---- replies, without an object for each of a million rows ---- */

static struct query_reply *_root(const redisReadTask *task, int type,
				 size_t elements)
{
	struct query *query = task->privdata;

	if (!task->parent)
		query->reply = (struct query_reply) {
			.type = type,
			.elements = elements,
		};
	else if (query->fetching && (type != REDIS_REPLY_STRING))
		query->bad = "it is no string";
	return &query->reply;
}

/*
 * A page begins: while it is read the daemon gets the next one ready. The empty
 * page is the last, nothing must be asked behind it.
 */
static struct query_reply *_begin_array(const redisReadTask *task,
					size_t elements)
{
	struct query *query = task->privdata;

	if (query->fetching && !task->parent && elements)
		query->asked_on = _put_fetch(&query->conn);
	return _root(task, task->type, elements);
}

static void _on_record(struct query *query, const char *bytes, size_t size)
{
	struct jc_record record;
	jobcomp_job_rec_t *row;

	if ((query->bad = jc_record_decode(&record, bytes, size)))
		return;
	if (query->het.looking_up) {
		het_note(&query->het, &record);
		return;
	}
	if (!het_keeps(&query->het, &record))
		return;
	row = query_row(&query->memory, &record);
	list_append(query->jobs, row);
	if (query->one_run_each)
		dedup_add(&query->dedup, row);
}

static void *_on_string(const redisReadTask *task, char *text, size_t len)
{
	struct query *query = task->privdata;
	struct query_reply *reply = _root(task, task->type, 0);

	if (!task->parent) {
		snprintf(reply->text, sizeof(reply->text), "%.*s", (int) len,
			 text);
	} else if (query->fetching && !query->bad) {
		_on_record(query, text, len);
	}
	return reply;
}

#if HIREDIS_MAJOR >= 1
static void *_on_array(const redisReadTask *task, size_t elements)
{
	return _begin_array(task, elements);
}
#else
static void *_on_array(const redisReadTask *task, int elements)
{
	return _begin_array(task, (size_t) elements);
}
#endif

static void *_on_integer(const redisReadTask *task, long long value)
{
	(void) value;
	return _root(task, task->type, 0);
}

static void *_on_nil(const redisReadTask *task)
{
	return _root(task, task->type, 0);
}

static void _on_free(void *reply)
{
	(void) reply;
}

static redisReplyObjectFunctions reply_objects = {
	.createString = _on_string,
	.createArray = _on_array,
	.createInteger = _on_integer,
	.createNil = _on_nil,
	.freeObject = _on_free,
};

/* ---- one request, one reply ---- */

static bool __attribute__((format(printf, 2, 3)))
_fail(struct query *query, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(query->why, sizeof(query->why), fmt, ap);
	va_end(ap);
	return false;
}

/* Waits until the socket has something, or for room while sending. */
static bool _wait(struct query *query, int64_t until_ms)
{
	struct pollfd fd = {
		.fd = query->conn.fd,
		.events = POLLIN,
	};
	int64_t left = until_ms - plog_now_ms();

	if (resp_pending(&query->conn))
		fd.events |= POLLOUT;
	if ((left <= 0) || !poll(&fd, 1, (int) left))
		return _fail(query, "no answer%s in time",
			     resp_pending(&query->conn) ?
			     " (not even the question was taken)" : "");
	return true;
}

/* Sends what was put and waits for its reply, in query->reply. */
static bool _ask(struct query *query)
{
	int64_t until = plog_now_ms() +
			(int64_t) query->params->timeout_s * 1000;
	struct resp *conn = &query->conn;
	size_t before = conn->reply_bytes;
	bool broken, open = true;

	for (;;) {
		bool whole = resp_reply(conn, &broken);

		/*
		 * What the reply's beginning asked for goes out at once. If that
		 * fails, what the daemon said before it left counts.
		 */
		if (open && !broken)
			(void) resp_flush(conn);
		if (whole)
			break;
		if (broken || !open)
			return _fail(query, "%s", conn->why);
		if (!_wait(query, until))
			return false;
		open = resp_fill(conn);
		/* a daemon that keeps sending is not late */
		if (conn->reply_bytes != before)
			until = plog_now_ms() +
				(int64_t) query->params->timeout_s * 1000;
		before = conn->reply_bytes;
	}
	if (query->reply.type == REDIS_REPLY_ERROR)
		return _fail(query, "%s", query->reply.text);
	return true;
}

/* ---- the conversation ---- */

/* A daemon that does not accept at the moment is given some time. */
static bool _connect(struct query *query)
{
	query->conn.daemon_user = query->params->daemon_user;
	query->conn.connect_ms = (int) query->params->timeout_s * 1000;
	return resp_open(&query->conn, query->params->query_path) ||
	       _fail(query, "%s", query->conn.why);
}

static bool _hello(struct query *query)
{
	return _put_hello(&query->conn) ? _ask(query) :
	       _fail(query, "%s", "no memory");
}

/* One page into the list; *done when it was the empty last one. */
static bool _fetch(struct query *query, bool *done)
{
	bool ok = query->asked_on || _put_fetch(&query->conn);

	query->asked_on = false;
	query->fetching = true;
	ok = ok ? _ask(query) : _fail(query, "%s", "no memory");
	query->fetching = false;
	if (!ok)
		return false;
	if (query->reply.type != REDIS_REPLY_ARRAY)
		return _fail(query, "%s", "the reply to FETCH is no array");
	if (query->bad)
		return _fail(query, "a record can't be read: %s", query->bad);
	*done = !query->reply.elements;
	return true;
}

/*
 * A whole question: every page of its answer goes where records go. The first
 * is asked for along with the question; when nothing matches it is empty.
 */
static bool _answer(struct query *query, const struct criteria *criteria)
{
	bool done = false;

	if (!_put_match(&query->conn, criteria) || !_put_fetch(&query->conn))
		return _fail(query, "%s", "no memory");
	if (!_ask(query))
		return false;
	for (query->asked_on = true; !done; )
		if (!_fetch(query, &done))
			return false;
	return true;
}

/* --whole-hetjob=yes: which heterogeneous jobs the ids are parts of. */
static bool _look_up_leaders(struct query *query,
			     const slurmdb_job_cond_t *job_cond)
{
	struct criteria criteria = { 0 };
	bool ok;

	if (!query->het.whole)
		return true;
	criteria_from_jobs(&criteria, job_cond);
	query->het.looking_up = true;
	ok = _answer(query, &criteria);
	query->het.looking_up = false;
	criteria_free(&criteria);
	return ok;
}

static bool _run(struct query *query, const slurmdb_job_cond_t *job_cond)
{
	struct criteria criteria;
	const char *cannot = criteria_from_cond(&criteria, job_cond);
	bool ok;

	if (cannot) {
		criteria_free(&criteria);
		return _fail(query, "completed jobs can't be selected by %s",
			     cannot);
	}
	ok = _connect(query) && _hello(query) &&
	     _look_up_leaders(query, job_cond);
	het_add_leaders(&query->het, &criteria);
	ok = ok && _answer(query, &criteria);
	criteria_free(&criteria);
	return ok;
}

extern jc_list_t *query_jobs(const struct params *params,
			     const slurmdb_job_cond_t *job_cond)
{
	struct query query = {
		.params = params,
		.jobs = list_create(row_free),
		.one_run_each = job_cond &&
				!(job_cond->flags & JOBCOND_FLAG_DUP),
	};
	bool ok;

	row_memory_init(&query.memory);
	resp_init(&query.conn, REPLY_MAX);
	query.conn.objects = &reply_objects;
	query.conn.privdata = &query;
	het_init(&query.het, job_cond);
	ok = _run(&query, job_cond);
	het_free(&query.het);
	dedup_finish(&query.dedup, query.jobs);
	resp_fini(&query.conn);
	row_memory_fini(&query.memory);
	if (ok)
		return query.jobs;

	FREE_NULL_LIST(query.jobs);
	if (running_in_slurmctld()) {
		error("jobcomp/redis: can't read completed jobs from %s: %s",
		      params->query_path, query.why);
		return NULL;
	}
	fprintf(stderr, "%s: error: can't read completed jobs from %s: %s\n",
		program_invocation_short_name, params->query_path, query.why);
	exit(1);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sender's half of the protocol on ingest.sock; see docs/protocol.md. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "msgpack.h"
#include "names.h"
#include "script.h"
#include "sender_internal.h"

#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 1000

extern int64_t delivery_next_pause(struct sender *sender)
{
	sender->backoff_ms = sender->backoff_ms ? sender->backoff_ms * 2 :
			     BACKOFF_MIN_MS;
	if (sender->backoff_ms > BACKOFF_MAX_MS)
		sender->backoff_ms = BACKOFF_MAX_MS;
	sender->random ^= sender->random << 13;
	sender->random ^= sender->random >> 17;
	sender->random ^= sender->random << 5;
	return sender->backoff_ms / 2 +
	       sender->random % (uint32_t) (sender->backoff_ms / 2 + 1);
}

static void _rewind(struct sender *sender)
{
	sender->rewinding = sender->renumber = false;
	sender->hole = sender->refused = false;
	sender->send = source_first(&sender->sources[sender->current]);
}

extern void delivery_restart(struct sender *sender)
{
	resp_close(&sender->conn);
	sender->link = LINK_DOWN;
	sender->request_count = 0;
	_rewind(sender);
}

extern void delivery_down(struct sender *sender, const char *why)
{
	if (plog_allow(&sender->link_limit, DELIVERY_LOG_MS)) {
		plog_error("no delivery to %s: %s; records are kept and sent when it is back",
			   sender->config.params.ingest_path, why);
		sender->told_down = true;
	}
	delivery_restart(sender);
	sender->retry_ms = plog_now_ms() + delivery_next_pause(sender);
}

static struct request *_new_request(struct sender *sender,
				    enum request_kind kind)
{
	unsigned i = (sender->request_first + sender->request_count++) %
		     MAX_IN_FLIGHT;

	sender->requests[i] = (struct request) {
		.kind = kind,
		.sent_ms = plog_now_ms(),
	};
	return &sender->requests[i];
}

static void _connect(struct sender *sender)
{
	struct resp *conn = &sender->conn;

	conn->daemon_user = sender->config.params.daemon_user;
	if (!resp_open(conn, sender->config.params.ingest_path)) {
		delivery_down(sender, conn->why);
		return;
	}
	if (!resp_put_array(conn, 3) ||
	    !resp_put_text(conn, "SLURMJC.HELLO") ||
	    !resp_put_text(conn, "1") ||
	    !resp_put_text(conn, sender->config.program)) {
		delivery_down(sender, "no memory");
		return;
	}
	sender->link = LINK_HELLO;
	/* a daemon that comes back is given a moment, but not at each attempt */
	if (sender->connected_ms <= sender->acked_ms)
		sender->connected_ms = plog_now_ms();
	_new_request(sender, REQUEST_HELLO);
}

/* ---- requests ---- */

static bool _put_counters(struct sender *sender, struct source *source,
			  uint64_t end_seq)
{
	struct source_counters counters = source_counters(source, end_seq);
	struct resp *conn = &sender->conn;
	char name[SOURCE_NAME_BYTES];
	bool ok;

	source_name(source, name);
	ok = resp_put_array(conn, counters.last_dropped_job ? 10 : 8) &&
	     resp_put_text(conn, "SLURMJC.RING") &&
	     resp_put_text(conn, name) &&
	     resp_put_text(conn, "ATTEMPTED") &&
	     resp_put_number(conn, counters.attempted) &&
	     resp_put_text(conn, "DROPPED") &&
	     resp_put_number(conn, counters.dropped) &&
	     resp_put_text(conn, "SPILLED") &&
	     resp_put_number(conn, counters.spilled);
	if (ok && counters.last_dropped_job)
		ok = resp_put_text(conn, "LAST_DROPPED") &&
		     resp_put_number(conn, counters.last_dropped_job);
	if (ok)
		_new_request(sender, REQUEST_RING);
	source->told_dropped = counters.dropped;
	source->told_ms = plog_now_ms();
	return ok;
}

/* Tells of every source whose counters are due. */
static bool _tell_counters(struct sender *sender)
{
	int64_t now = plog_now_ms();

	for (int i = 0; i < sender->source_count; i++) {
		struct source *source = &sender->sources[i];
		bool due = source->ring &&
			   (!source->told_ms ||
			    (now - source->told_ms >= TELL_MS) ||
			    (source_counters(source, 0).dropped !=
			     source->told_dropped));

		if (due && (sender->request_count < MAX_IN_FLIGHT) &&
		    !_put_counters(sender, source, 0))
			return false;
	}
	return true;
}

/* Writes name as a MessagePack string, or nil; returns the bytes. */
static size_t _pack_name(uint8_t to[300], const char *name)
{
	struct mp_writer w;

	mp_writer_init(&w, to, 300);
	if (name)
		mp_write_str(&w, name, strlen(name));
	if (!name || w.full) {
		mp_writer_init(&w, to, 300);
		mp_write_nil(&w);
	}
	return (size_t) (w.pos - to);
}

/* With the job script; false when there is none, or no memory for it. */
static bool _put_with_script(struct sender *sender,
			     const struct ring_rec_head *head,
			     const uint8_t *payload)
{
	size_t room = head->len + SCRIPT_ROOM, len = 0;
	uint8_t *record = malloc(room);
	bool ok;

	if (record)
		len = script_add(sender->config.state_dir, head, payload,
				 names_user(head->uid),
				 names_group(head->gid), record, room);
	ok = len && resp_put_bulk(&sender->conn, record, len);
	free(record);
	return ok;
}

/*
 * Appends a record as one argument. The hook leaves nil where Slurm had no
 * name of the user or the group; the names take those places here.
 */
static bool _put_record(struct sender *sender,
			const struct ring_rec_head *head,
			const uint8_t *payload)
{
	struct resp *conn = &sender->conn;
	uint8_t user[300], group[300];
	size_t user_len = 0, group_len = 0, from = 0, total = head->len;
	char line[32];
	bool ok;

	if ((head->flags & RING_REC_WANT_SCRIPT) &&
	    _put_with_script(sender, head, payload))
		return true;
	if (head->user_at && (head->user_at < head->len)) {
		user_len = _pack_name(user, names_user(head->uid));
		total += user_len - 1;
	}
	if (head->group_at && (head->group_at < head->len) &&
	    (head->group_at > head->user_at)) {
		group_len = _pack_name(group, names_group(head->gid));
		total += group_len - 1;
	}
	snprintf(line, sizeof(line), "$%zu\r\n", total);
	ok = resp_put(conn, line, strlen(line));
	if (user_len) {
		ok = ok && resp_put(conn, payload, head->user_at) &&
		     resp_put(conn, user, user_len);
		from = head->user_at + 1u;
	}
	if (group_len) {
		ok = ok && resp_put(conn, payload + from,
				      head->group_at - from) &&
		     resp_put(conn, group, group_len);
		from = head->group_at + 1u;
	}
	return ok && resp_put(conn, payload + from, head->len - from) &&
	       resp_put(conn, "\r\n", 2);
}

/*
 * How many records the next batch takes. A request begins with the number of its
 * arguments, so they are counted before they are put in.
 */
static uint32_t _count_records(struct sender *sender, struct source *source,
			       struct source_cursor *end)
{
	struct source_cursor cursor = sender->send;
	size_t bytes = 0, limit = BATCH_BYTES;
	uint32_t count = 0;

	if (sender->max_request_bytes / 2 < limit)
		limit = sender->max_request_bytes / 2;
	*end = cursor;
	while (count < sender->batch_records) {
		struct ring_rec_head head;
		const uint8_t *payload;
		enum ring_read_result result;

		result = source_read(source, &cursor, &head, &payload);
		if (result == RING_HOLE) {
			if (count)
				break; /* it comes up again, first in line */
			sender->rewinding = sender->hole = true;
			sender->hole_seq = sender->send.at.seq;
			sender->hole_end = cursor;
			break;
		}
		if (result == RING_EMPTY)
			break;
		bytes += head.len + 640; /* names and the frame */
		if (head.flags & RING_REC_WANT_SCRIPT)
			bytes += SCRIPT_ROOM;
		if (count && (bytes > limit))
			break;
		count++;
		*end = cursor;
	}
	return count;
}

/* Sends one batch; false when there was nothing to send or no memory. */
static bool _put_batch(struct sender *sender, struct source *source)
{
	struct resp *conn = &sender->conn;
	struct source_cursor cursor, end;
	uint32_t count = _count_records(sender, source, &end);
	struct request *request;
	char name[SOURCE_NAME_BYTES];
	bool ok;

	if (!count)
		return false;
	source_name(source, name);
	ok = resp_put_array(conn, 5 + (size_t) count) &&
	     resp_put_text(conn, "SLURMJC.PUT") &&
	     resp_put_text(conn, "SPOOL") && resp_put_text(conn, name) &&
	     resp_put_number(conn, source_wire_seq(source, &sender->send)) &&
	     resp_put_text(conn, "RECORDS");
	cursor = sender->send;
	cursor.at.whole_to = end.at.seq; /* counting them has shown it */
	for (uint32_t i = 0; ok && (i < count); i++) {
		struct ring_rec_head head;
		const uint8_t *payload;

		ok = (source_read(source, &cursor, &head, &payload) ==
		      RING_RECORD) && _put_record(sender, &head, payload);
	}
	if (!ok) {
		delivery_down(sender, "no memory for a batch");
		return false;
	}
	request = _new_request(sender, REQUEST_PUT);
	request->begin = sender->send;
	request->end = end;
	request->count = count;
	request->wire_seq = source_wire_seq(source, &sender->send);
	sender->send = end;
	return true;
}

/* ---- the step ---- */

static void _receive(struct sender *sender)
{
	redisReply *reply;
	bool broken;
	bool open = resp_fill(&sender->conn);

	while (sender->link != LINK_DOWN) {
		reply = resp_reply(&sender->conn, &broken);
		if (broken) {
			delivery_down(sender, sender->conn.why);
			return;
		}
		if (!reply)
			break;
		if (!sender->request_count) {
			freeReplyObject(reply);
			delivery_down(sender, "a reply nobody asked for");
			return;
		}
		delivery_reply(sender, reply);
		freeReplyObject(reply);
	}
	if (!open && (sender->link != LINK_DOWN))
		delivery_down(sender, sender->conn.why);
}

/*
 * All replies are in after a refusal or a hole: does what it asked for. When
 * something before the hole was refused meanwhile, that goes first; the hole
 * comes up again.
 */
static void _resume(struct sender *sender)
{
	struct source *source = &sender->sources[sender->current];
	struct source_cursor first = source_first(source);
	uint64_t lost = 0;

	if ((sender->hole || sender->refused) &&
	    (sender->hole_seq == first.at.seq)) {
		lost = sender->hole_end.at.seq - first.at.seq;
		if (lost && sender->hole)
			plog_error("%llu damaged records given up",
				   (unsigned long long) lost);
		source_count_lost(source, lost);
		if (lost && source->ring)
			(void) _put_counters(sender, source,
					     sender->hole_end.at.seq);
		if (lost)
			source_give_up(source, &sender->hole_end);
		else
			source_free(source, &sender->hole_end);
	} else if (sender->renumber) {
		source_renumber(source);
	}
	_rewind(sender);
}

/* Picks the next source with something to send; orphans before our own. */
static void _choose_source(struct sender *sender)
{
	int best = 0;

	for (int i = 1; i < sender->source_count; i++)
		if (!source_empty(&sender->sources[i]))
			best = i;
	if (best != sender->current) {
		sender->current = best;
		_rewind(sender);
	}
}

/* True when an adopted source waits while requests are about our own. */
static bool _orphan_waits(const struct sender *sender)
{
	if (sender->current)
		return false;
	for (int i = 1; i < sender->source_count; i++)
		if (!source_empty(&sender->sources[i]))
			return true;
	return false;
}

static void _fill_pipeline(struct sender *sender)
{
	if (!_tell_counters(sender)) {
		delivery_down(sender, "no memory");
		return;
	}
	while ((sender->link == LINK_READY) &&
	       (sender->request_count < MAX_IN_FLIGHT) &&
	       (sender->conn.out_len < 4 * BATCH_BYTES)) {
		if (sender->request_count &&
		    (sender->rewinding || _orphan_waits(sender)))
			return;
		if (sender->rewinding)
			_resume(sender);
		if (plog_now_ms() < sender->retry_ms)
			return;
		if (!sender->request_count)
			_choose_source(sender);
		if (!_put_batch(sender, &sender->sources[sender->current]) &&
		    !sender->rewinding)
			return;
	}
}

extern void delivery_step(struct sender *sender)
{
	int64_t now = plog_now_ms();

	if (sender->link == LINK_DOWN) {
		if (now < sender->retry_ms)
			return;
		_connect(sender);
	}
	if (sender->link != LINK_DOWN)
		_receive(sender);
	if (sender->link == LINK_READY)
		_fill_pipeline(sender);
	if ((sender->link != LINK_DOWN) && !resp_flush(&sender->conn))
		delivery_down(sender, sender->conn.why);
	if ((sender->link != LINK_DOWN) && sender->request_count) {
		const struct request *oldest =
			&sender->requests[sender->request_first];
		int64_t since = (oldest->sent_ms > sender->progress_ms) ?
				oldest->sent_ms : sender->progress_ms;

		if (now - since > ((sender->link == LINK_HELLO) ?
				   CONNECT_MS : REPLY_MS))
			delivery_down(sender, "the daemon does not answer");
	}
}

extern int delivery_wait_ms(const struct sender *sender)
{
	int64_t now = plog_now_ms(), until = now + 1000;

	if ((sender->link == LINK_DOWN) || (now < sender->retry_ms))
		until = (sender->retry_ms < until) ? sender->retry_ms : until;
	return (until > now) ? (int) (until - now) : 0;
}

extern bool delivery_done(const struct sender *sender)
{
	for (int i = 0; i < sender->source_count; i++)
		if (!source_empty(&sender->sources[i]))
			return false;
	return true;
}

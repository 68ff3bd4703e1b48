/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon answers on ingest.sock, and what follows from it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sender_internal.h"

static void _hello_reply(struct sender *sender, const redisReply *reply)
{
	sender->max_request_bytes = (size_t) 1 << 20;
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		const redisReply *name = reply->element[i];
		const redisReply *value = reply->element[i + 1];

		if ((name->type == REDIS_REPLY_STRING) &&
		    !strcmp(name->str, "max_request_bytes"))
			sender->max_request_bytes =
				(value->type == REDIS_REPLY_INTEGER) ?
				(size_t) value->integer :
				(value->type == REDIS_REPLY_STRING) ?
				strtoull(value->str, NULL, 10) : 0;
	}
	if (sender->max_request_bytes < 65536)
		sender->max_request_bytes = 65536;
	sender->link = LINK_READY;
	if (sender->told_down)
		plog_info("connected to %s",
			  sender->config.params.ingest_path);
	sender->told_down = false;
	for (int i = 0; i < sender->source_count; i++)
		sender->sources[i].told_ms = 0;
}

static bool _starts(const redisReply *reply, const char *word)
{
	size_t n = strlen(word);

	return (reply->type == REDIS_REPLY_ERROR) &&
	       !strncmp(reply->str, word, n) &&
	       ((reply->str[n] == ' ') || !reply->str[n]);
}

/* The daemon has everything before wire number expected. */
static void _out_of_sequence(struct sender *sender, struct source *source,
			     uint64_t expected)
{
	struct source_cursor cursor = source_first(source);
	uint64_t first = source_wire_seq(source, &cursor);
	struct ring_rec_head head;
	const uint8_t *payload;

	if ((expected < first) || (expected > source_wire_end(source))) {
		/* it forgot records that it acknowledged, or knows more than
		 * there ever was: another spool than the one that acked */
		plog_error("the daemon expects record %llu, the ring holds %llu to %llu: starting a new numbering",
			   (unsigned long long) expected,
			   (unsigned long long) first,
			   (unsigned long long) source_wire_end(source));
		sender->renumber = true;
		return;
	}
	while ((source_wire_seq(source, &cursor) < expected) &&
	       (source_read(source, &cursor, &head, &payload) == RING_RECORD))
		;
	source_free(source, &cursor);
}

/* A record that the daemon will not take in any form. */
static void _refused_record(struct sender *sender,
			    const struct request *request, uint32_t index,
			    const char *why)
{
	struct source *source = &sender->sources[sender->current];
	struct source_cursor cursor = request->begin;
	struct ring_rec_head head = { 0 };
	const uint8_t *payload;

	for (uint32_t i = 0; i <= index; i++)
		if (source_read(source, &cursor, &head, &payload) !=
		    RING_RECORD)
			return;
	if (index) {
		/* its neighbours before it go first, by themselves */
		sender->batch_records = index;
		return;
	}
	plog_error("the daemon refuses the record of JobId=%u, dropped: %s",
		   head.job_id, why);
	sender->refused = true;
	sender->hole_seq = request->begin.at.seq;
	sender->hole_end = cursor;
	sender->batch_records = BATCH_RECORDS;
}

static void _put_error(struct sender *sender, const struct request *request,
		       const redisReply *reply)
{
	struct source *source = &sender->sources[sender->current];
	unsigned long long n = 0;

	if (sender->rewinding)
		return; /* what follows a refusal is refused as well */
	sender->rewinding = true;
	if (_starts(reply, "OUTOFSEQ") &&
	    (sscanf(reply->str, "OUTOFSEQ %llu", &n) == 1)) {
		_out_of_sequence(sender, source, n);
		return;
	}
	if (_starts(reply, "BADRECORD") &&
	    (sscanf(reply->str, "BADRECORD %llu", &n) == 1) &&
	    (n < request->count)) {
		_refused_record(sender, request, (uint32_t) n, reply->str);
		return;
	}
	if (_starts(reply, "TOOBIG")) {
		if (request->count == 1)
			_refused_record(sender, request, 0, reply->str);
		else
			sender->batch_records = request->count / 2;
		return;
	}
	if (plog_allow(&sender->refuse_limit, DELIVERY_LOG_MS))
		plog_error("the daemon does not take records: %s; trying again",
			   reply->str);
	sender->retry_ms = plog_now_ms() + delivery_next_pause(sender);
}

static void _put_reply(struct sender *sender, const struct request *request,
		       const redisReply *reply)
{
	struct source *source = &sender->sources[sender->current];
	struct source_cursor first = source_first(source);

	if (reply->type == REDIS_REPLY_ERROR) {
		_put_error(sender, request, reply);
		return;
	}
	if (reply->type != REDIS_REPLY_INTEGER) {
		delivery_down(sender, "the daemon's reply to PUT is no number");
		return;
	}
	if (sender->rewinding && (request->begin.at.seq != first.at.seq))
		return; /* not behind what is acknowledged: sent again */
	source_free(source, &request->end);
	sender->acked_ms = sender->progress_ms;
	/* now it works again, not when somebody said hello */
	sender->backoff_ms = 0;
	sender->link_limit = sender->refuse_limit = (struct plog_limit) { 0 };
	if (sender->batch_records < BATCH_RECORDS)
		sender->batch_records = BATCH_RECORDS;
}

extern void delivery_reply(struct sender *sender, const redisReply *reply)
{
	struct request request = sender->requests[sender->request_first];
	char why[300];

	sender->request_first = (sender->request_first + 1) % MAX_IN_FLIGHT;
	sender->request_count--;
	sender->progress_ms = plog_now_ms();
	if (request.kind == REQUEST_PUT) {
		_put_reply(sender, &request, reply);
	} else if ((reply->type == REDIS_REPLY_ERROR) &&
		   (request.kind == REQUEST_RING)) {
		if (plog_allow(&sender->refuse_limit, DELIVERY_LOG_MS))
			plog_error("the daemon does not take the ring's counters: %s",
				   reply->str);
	} else if (request.kind == REQUEST_HELLO) {
		if (reply->type == REDIS_REPLY_ARRAY) {
			_hello_reply(sender, reply);
			return;
		}
		snprintf(why, sizeof(why), "the daemon answers HELLO with %.200s",
			 (reply->type == REDIS_REPLY_ERROR) ? reply->str :
			 "something else than an array");
		delivery_down(sender, why);
	}
}

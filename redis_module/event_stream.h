/* SPDX-License-Identifier: MIT */
/*
 * The stream <prefix>:events: one entry for each record that a command stored,
 * in the same effect. docs/events.md says what stands in one.
 *
 * Ids come from the command's arguments and from the stream, never from a
 * clock here, so that replicas and an append-only file come to the same.
 */
#ifndef SLURMJCD_EVENT_STREAM_H
#define SLURMJCD_EVENT_STREAM_H

#include "store.h"

#define JC_EVENTS_MAX UINT64_C(1000000000) /* entries that may stay */

struct jc_events {
    RedisModuleCtx *ctx;
    RedisModuleKey *key;      /* NULL: events are not wanted */
    RedisModuleStreamID next; /* of the next entry */
    uint64_t keep;            /* entries that stay; 0: all */
    long long added;
};

/* Opens the stream for at most `records` entries; ms is the sender's clock,
 * epoch milliseconds. NULL, or an error; nothing has been changed then. */
const char *jc_events_open(struct jc_events *ev, RedisModuleCtx *ctx,
                           struct jc_slice prefix, uint64_t keep, uint64_t ms,
                           uint64_t records);

/* One entry. spool and seq: where the record came from; spool.n == 0: nowhere.
 * again: it replaced an earlier report of the same run. */
void jc_events_add(struct jc_events *ev, const struct jc_record *rec,
                   struct jc_slice spool, uint64_t seq, bool again);

/* Takes the oldest away beyond what stays, and closes. Also when not open. */
void jc_events_close(struct jc_events *ev);

#define JC_EVENT_ID_BYTES 48

struct jc_events_span {
    uint64_t length; /* entries there are */
    uint64_t added;  /* entries there ever were */
    char first[JC_EVENT_ID_BYTES]; /* of those that are there; "0-0": none */
    char last[JC_EVENT_ID_BYTES];  /* that was ever given; "0-0": none */
};

struct jc_events_span jc_events_span(RedisModuleCtx *ctx,
                                     struct jc_slice prefix);

/* Is there such a stream? */
bool jc_events_wanted(RedisModuleCtx *ctx, struct jc_slice prefix);

/* Name of the key; the caller frees it. */
RedisModuleString *jc_events_name(RedisModuleCtx *ctx, struct jc_slice prefix);

#endif

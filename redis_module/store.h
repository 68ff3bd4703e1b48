/* SPDX-License-Identifier: MIT */
/*
 * Where jobs lie in the keyspace: key names, the segments a prefix has, and
 * opening them. The days of a prefix are kept in memory as a superset of the
 * keys that exist; keyspace events keep it up to date, and whoever opens a key
 * that is not there (or is somebody else's) passes over it.
 */
#ifndef SLURMJCD_STORE_H
#define SLURMJCD_STORE_H

#include "engine/segment.h"
#include "redismodule.h"

extern RedisModuleType *jc_segment_type;

#define JC_NO_DAY INT64_MAX

/* The bytes of a string argument. */
struct jc_slice jc_arg(const RedisModuleString *s);

/* True when the argument is that word, in any case. */
bool jc_arg_is(const RedisModuleString *s, const char *word);

/* <prefix>:<kind>:<id>; the caller frees it. kind NULL: <prefix>:<id>. */
RedisModuleString *jc_key_name(RedisModuleCtx *ctx, struct jc_slice prefix,
                               const char *kind, struct jc_slice id);

/* In cluster mode a prefix needs a hash tag; replies with the error if not. */
bool jc_check_prefix(RedisModuleCtx *ctx, RedisModuleString *prefix);

/* Cuts a segment's key name; false when it is none. */
bool jc_parse_segment_key(struct jc_slice key, struct jc_slice *prefix,
                          int64_t *day);

/* The first day >= from that may have a segment, JC_NO_DAY if none. */
int64_t jc_store_next_day(int db, struct jc_slice prefix, int64_t from);

void jc_store_add_day(int db, struct jc_slice prefix, int64_t day);

/* The segment of a day for reading, or NULL; *key is to be closed if set. */
const struct jc_segment *jc_open_segment(RedisModuleCtx *ctx,
                                         struct jc_slice prefix, int64_t day,
                                         RedisModuleKey **key);

/* Opens a segment's key for writing. Returns false when it holds another type;
 * *s is NULL when it is empty. */
bool jc_open_segment_write(RedisModuleCtx *ctx, struct jc_slice prefix,
                           int64_t day, RedisModuleKey **key,
                           struct jc_segment **s);

/* What store_events.c keeps the days up to date with; db -1: all. */
void jc_store_remove_day(int db, struct jc_slice prefix, int64_t day);
void jc_store_flush(int db);
uint64_t jc_store_flushes(void); /* how often that was */
void jc_store_swap(int a, int b);
void jc_store_init(void);

/* Adds the day of a key that holds a segment now, or may hold one soon. */
void jc_store_note_key(int db, const RedisModuleString *key);

/* Listens to what changes the keyspace; REDISMODULE_ERR if refused. */
int jc_store_listen(RedisModuleCtx *ctx);

#endif

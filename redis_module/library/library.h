/* SPDX-License-Identifier: MIT */
/*
 * slurmjc_engine.so: the engine without a server, for slurmjcd/cold/engine.py,
 * which asks criteria of records that lie in files. What matches is decided by
 * the very code that decides it in Redis.
 *
 * Records come as an Arrow binary array has them: one behind the other, the
 * i-th from offsets[i] to offsets[i + 1]. Not to be called by two threads at a
 * time: the engine keeps what it unpacked last.
 */
#ifndef SLURMJCD_LIBRARY_H
#define SLURMJCD_LIBRARY_H

#include "agg.h"
#include "filter.h"

#define JC_EXPORT __attribute__((visibility("default")))

/* What Python is held to; another number, another interface. */
#define JC_LIBRARY_VERSION 1
JC_EXPORT uint32_t jc_library_version(void);

/* ---- runs: which reports of a run there are, and when the latest ended ---- */

struct jc_runs;

JC_EXPORT struct jc_runs *jc_runs_new(void);
JC_EXPORT void jc_runs_free(struct jc_runs *r);

/* Takes note of n records. -1, or the index of one that can't be read; with
 * too many runs it is the index of the first that was left out. */
JC_EXPORT int64_t jc_runs_add(struct jc_runs *r, const uint8_t *data,
                              const int64_t *offsets, uint32_t n);

/* beaten[i] becomes 1 when a record was noted that reports the run of the i-th
 * again with a later end, or with `ties` the same; else 0. Returns how many,
 * or -1 - the index of a record that can't be read. */
JC_EXPORT int64_t jc_runs_beaten(const struct jc_runs *r, const uint8_t *data,
                                 const int64_t *offsets, uint32_t n,
                                 bool ties, uint8_t *beaten);

/* ---- questions ---- */

struct jc_question;

JC_EXPORT struct jc_question *jc_question_new(void);
JC_EXPORT void jc_question_free(struct jc_question *q);

/* One pair of name and value, and after the last pair all of them together:
 * NULL, or what is wrong with it, good until the next call. */
JC_EXPORT const char *jc_question_add(struct jc_question *q, const char *name,
                                      uint32_t name_n, const char *value,
                                      uint32_t value_n);
JC_EXPORT const char *jc_question_done(struct jc_question *q);

/* Fields to sum by, the second may be empty; false when there is no such. */
JC_EXPORT bool jc_question_by(struct jc_question *q, const char *first,
                              const char *second);

/* No job that ended on an earlier or a later day can match. */
JC_EXPORT int64_t jc_question_first_day(const struct jc_question *q);
JC_EXPORT int64_t jc_question_last_day(const struct jc_question *q);
JC_EXPORT uint64_t jc_question_limit(const struct jc_question *q);

/*
 * Asks it of n records of one day, in order of completion, each run once.
 * match[i] comes with 0 for those to be left out and becomes 1 for those that
 * match. When fields to sum by were named these are counted too. Returns how
 * many match, or -1 - the index of a record that can't be read.
 */
JC_EXPORT int64_t jc_question_ask(struct jc_question *q, int64_t day,
                                  const uint8_t *data, const int64_t *offsets,
                                  uint32_t n, uint8_t *match);

/*
 * The sums, as a MessagePack array of [key, key or nil, jobs, node-seconds / 2^64,
 * node-seconds mod 2^64, cpu-seconds likewise twice, wait, run]. Keys are
 * bytes, nil for absent. Returns the bytes it takes; nothing is written when
 * these are more than room. SIZE_MAX: more groups than AGG has.
 */
JC_EXPORT size_t jc_question_sums(const struct jc_question *q, uint8_t *out,
                                  size_t room);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The job record of schema/record.json in C: one struct whose strings point
 * into somebody else's memory, and the two ways between it and MessagePack.
 * Used by the Slurm plugin (encode in the hook, decode in sacct) and by the
 * Redis module (decode in PUT, encode in FETCH). Neither direction allocates.
 */
#ifndef SLURMJCD_RECORD_H
#define SLURMJCD_RECORD_H

#include "msgpack.h"
#include "record_fields.h"

/* Bytes in somebody else's memory; p == NULL is nil, n == 0 with p is "". */
struct jc_slice {
    const char *p;
    uint32_t n;
};

/* A number that may be nil. */
struct jc_number {
    uint64_t value;
    bool known;
};

/* time_limit: see "limit" in schema/record.json. */
enum jc_limit {
    JC_LIMIT_NIL,
    JC_LIMIT_MINUTES,   /* jc_record.time_limit minutes */
    JC_LIMIT_UNLIMITED, /* "UNLIMITED" */
    JC_LIMIT_PARTITION, /* "Partition_Limit" */
};

/*
 * Every field at its JC_FIELD_ position: numbers (uint, status, time) in
 * number[], strings in string[]; the slots of the other kind, of time_limit and
 * of extra stay zero. extra is the map's MessagePack bytes, never nil.
 */
struct jc_record {
    struct jc_number number[JC_FIELD_COUNT];
    struct jc_slice string[JC_FIELD_COUNT];
    enum jc_limit limit_kind;
    uint32_t time_limit;   /* minutes, when JC_LIMIT_MINUTES */
    uint32_t state_flags;  /* extra.state_flags, 0 when absent (decode only) */
    uint32_t state_reason_prev; /* the same of extra.state_reason_prev, */
    uint32_t suspended;         /* of extra.suspended, */
    uint64_t orig_start;        /* of extra.orig_start */
    struct jc_number cancelled_by; /* and of extra.cancelled_by */
    struct jc_slice extra; /* encode: NULL writes an empty map */
};

enum jc_kind { JC_KIND_NUMBER, JC_KIND_STRING, JC_KIND_LIMIT, JC_KIND_EXTRA };

/* What schema/record.json says of one field. */
struct jc_field {
    const char *name;
    enum jc_kind kind;
    bool required;      /* nil is refused */
    uint64_t max;       /* numbers: largest value */
    uint32_t max_bytes; /* strings: where the plugin cuts */
};

extern const struct jc_field jc_fields[JC_FIELD_COUNT];

/*
 * Decodes size bytes into rec, whose slices then point into buf. Accepts any
 * MessagePack form of a value and more than JC_FIELD_COUNT elements. Returns
 * NULL, or a constant text saying what is wrong with the bytes: wrong type,
 * number too large, version other than 1, job_id or end of 0, a required field
 * that is nil, a NUL inside a string, an extra that is no map of string keys,
 * bytes left over.
 */
const char *jc_record_decode(struct jc_record *rec, const void *buf,
                             size_t size);

/*
 * Writes rec in shortest forms: the array's head and the fields before extra.
 * The caller writes the map itself (the plugin, which has no bytes yet).
 */
void jc_record_encode_fields(struct mp_writer *w, const struct jc_record *rec);

/* The whole record, extra's bytes as they are. Check w->full afterwards. */
void jc_record_encode(struct mp_writer *w, const struct jc_record *rec);

/* Bytes that jc_record_encode needs at most. */
size_t jc_record_encoded_max(const struct jc_record *rec);

/*
 * Walks an extra map that jc_record_decode accepted: calls each() once per pair
 * with the key and a reader on its value, until it returns false.
 */
void jc_extra_each(struct jc_slice extra,
                   bool (*each)(void *ctx, struct jc_slice key,
                                struct mp_reader value),
                   void *ctx);

#endif

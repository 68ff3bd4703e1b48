/* SPDX-License-Identifier: MIT */
/*
 * The jobs that ended on one UTC day, in order of completion: (end, job_id),
 * then submit, start, restart_count and cluster, so that the order is the same
 * on every server. Each run of a job, (cluster, job_id, submit, start,
 * restart_count), is there at most once.
 */
#ifndef SLURMJCD_SEGMENT_H
#define SLURMJCD_SEGMENT_H

#include "block.h"
#include "dict.h"
#include "idindex.h"

#define JC_DAY_SECONDS 86400
#define JC_HOT_BLOCKS 4 /* open at a time in one segment */

struct jc_segment {
    int64_t day;              /* days since 1970-01-01 of every row's end */
    uint64_t serial;          /* no two segments of a process share it */
    struct jc_block **order;  /* blocks in order of completion */
    uint32_t blocks;
    uint32_t order_room;
    struct jc_block **by_id;  /* block id -> block, NULL when free */
    uint32_t ids;
    uint32_t ids_room;
    struct jc_dict dict[JC_FIELD_COUNT]; /* of the string columns */
    struct jc_idindex index;
    uint64_t rows;
    size_t sealed_bytes;      /* of the blocks that are sealed */
    uint32_t late_blocks;     /* sealed blocks that have late rows */
    uint32_t late_rows;       /* since one of them was packed */
    uint32_t late_from;       /* where in order[] to look for them */
    uint64_t layout;          /* changes whenever rows move */
    uint64_t longest_ttl;     /* seconds, of the rows that have one */
    uint32_t hot[JC_HOT_BLOCKS]; /* ids + 1 of open blocks, last used first */
    uint32_t *seen;           /* hashes of strings that came once */
    uint32_t seen_size;       /* a power of two, or 0 */
    bool for_ever;            /* a row has no time to live */
    bool backward;            /* a row ended on a day before it started */
    uint32_t lowest_id, highest_id; /* of job ids, array and het job ids */
};

/* A row's place; good until the segment changes. */
struct jc_place {
    uint32_t block; /* in order[] */
    uint32_t row;
};

enum jc_put {
    JC_PUT_KNOWN,    /* the same record, or an earlier report of the run */
    JC_PUT_NEW,
    JC_PUT_REPLACED, /* an earlier report of the run gave way */
};

struct jc_segment *jc_segment_new(int64_t day);
void jc_segment_free(struct jc_segment *s);

/* True when the segment can't take another record for sure. */
bool jc_segment_full(const struct jc_segment *s);

/* Finds the run that rec reports. O(1) plus a look into the blocks that hold
 * the job id. */
bool jc_segment_find_run(const struct jc_segment *s,
                         const struct jc_record *rec, struct jc_place *place);

/* Blocks looked into so far to find runs, by this process. */
uint64_t jc_segment_blocks_looked(void);

/* Stores rec, whose end must lie on the segment's day. ttl: seconds after end,
 * 0 = for ever. The segment must not be full. */
enum jc_put jc_segment_put(struct jc_segment *s, const struct jc_record *rec,
                           uint64_t ttl);

/* Fetches what putting a job of that id needs first. */
void jc_segment_expect(const struct jc_segment *s, uint32_t job_id);

/* Was any segment of this process ever backward? */
bool jc_segment_backward_seen(void);

void jc_segment_remove(struct jc_segment *s, struct jc_place place);

/* The record at place; its slices are good until the segment changes or a
 * record of another block, of any segment, is got. */
void jc_segment_get(const struct jc_segment *s, struct jc_place place,
                    struct jc_record *rec, uint64_t *ttl);

/* Packs the open block that was not changed for longest or, if none is open, a
 * block with late rows. False when there was nothing to pack. */
bool jc_segment_cool(struct jc_segment *s);

/* Packs every block: for a segment that was loaded. */
void jc_segment_seal(struct jc_segment *s);

/* Epoch second from which no row is visible any more, 0 = never. */
uint64_t jc_segment_expires(const struct jc_segment *s);

/* Bytes allocated for it all. O(1) in rows. */
size_t jc_segment_bytes(const struct jc_segment *s);

/* A word that changes with every record that comes, goes or is replaced; two
 * segments of a process never share one. */
#define JC_STAMP_BYTES 64
void jc_segment_stamp(const struct jc_segment *s, char stamp[JC_STAMP_BYTES]);

struct jc_mover {
    void *(*move)(void *ctx, void *p); /* the new place, NULL: it stays */
    bool (*stop)(void *ctx);           /* enough for now? */
    void *ctx;
};

/* Moves every allocation of *s; true when it was stopped before the end and is
 * to be called again with *cursor, which starts at 0. */
bool jc_segment_move(struct jc_segment **s, unsigned long *cursor,
                     const struct jc_mover *m);

/* The day a record belongs to. */
static inline int64_t jc_day_of(uint64_t end)
{
    return (int64_t)(end / JC_DAY_SECONDS);
}

#endif

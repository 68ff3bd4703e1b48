/* SPDX-License-Identifier: MIT */
/* The data type of segments: what Redis does with one besides our commands. */
#include "segment_type.h"

#include <stdlib.h>
#include <zstd.h>

#include "engine/rows.h"
#include "record_buffer.h"
#include "store.h"

/*
 * Encoding versions of the RDB form. Version 1 holds the records, not the
 * columns, so that the columns may change without touching old files:
 *   day, rows, then chunks until all rows are there:
 *   rows in the chunk, bytes unpacked, string (zstd): per row time to live and
 *   record, both MessagePack
 */
#define JC_RDB_RECORDS 1

#define CHUNK_BYTES 262144 /* a chunk is closed past this */
#define CHUNK_ROWS 1024
#define CHUNK_MAX (CHUNK_BYTES + JC_RECORD_MAX_BYTES + 65536)
#define ZSTD_LEVEL 1

/* A payload of RESTORE may grow to so much, and to so many times its size: a
 * few bytes can unpack to a large chunk. Files are their owner's, who needs
 * them loaded. */
#define GROWN_FREE 67108864
#define GROWN_TIMES 256
#define LOOKED_FREE 65536 /* blocks looked into for runs of the same job ... */
#define LOOKED_TIMES 16   /* ... and for each row */

RedisModuleType *jc_segment_type;

/* ---- walking rows ---- */

/* Calls each() on every row in order of completion. */
static void each_row(const struct jc_segment *s,
                     void (*each)(void *ctx, const struct jc_segment *s,
                                  struct jc_place place), void *ctx)
{
    for (uint32_t b = 0; b < s->blocks; b++)
        for (uint32_t r = 0; r < s->order[b]->rows; r++)
            each(ctx, s, (struct jc_place){b, r});
}

static uint64_t ttl_of(const struct jc_segment *s, struct jc_place place)
{
    return jc_block_code(s->order[place.block], place.row, JC_COL_TTL);
}

/* For one walk over rows at a time. */
static struct jc_rows rows_at_hand;

/* Appends a row's record; returns its bytes. */
static size_t add_record(struct jc_buffer *b, const struct jc_segment *s,
                         struct jc_place place)
{
    size_t n;

    jc_buffer_reserve(b, jc_rows_at(&rows_at_hand, s, place));
    n = jc_rows_write(&rows_at_hand, place.row, b->p + b->n);
    b->n += n;
    return n;
}

/* ---- RDB ---- */

struct saving {
    RedisModuleIO *io;
    struct jc_buffer raw, packed;
    ZSTD_CCtx *zstd;
    uint64_t rows;
};

static void save_chunk(struct saving *sv)
{
    size_t n;

    if (!sv->rows)
        return;
    sv->packed.n = 0;
    jc_buffer_reserve(&sv->packed, ZSTD_compressBound(sv->raw.n));
    n = ZSTD_compressCCtx(sv->zstd, sv->packed.p, sv->packed.room, sv->raw.p,
                          sv->raw.n, ZSTD_LEVEL);
    RedisModule_SaveUnsigned(sv->io, sv->rows);
    RedisModule_SaveUnsigned(sv->io, sv->raw.n);
    RedisModule_SaveStringBuffer(sv->io, (const char *)sv->packed.p,
                                 ZSTD_isError(n) ? 0 : n);
    sv->rows = 0;
    sv->raw.n = 0;
}

static void save_row(void *ctx, const struct jc_segment *s,
                     struct jc_place place)
{
    struct saving *sv = ctx;

    jc_buffer_add_number(&sv->raw, ttl_of(s, place));
    add_record(&sv->raw, s, place);
    if (++sv->rows == CHUNK_ROWS || sv->raw.n > CHUNK_BYTES)
        save_chunk(sv);
}

static void segment_save(RedisModuleIO *io, void *value)
{
    const struct jc_segment *s = value;
    struct saving sv = {.io = io, .zstd = ZSTD_createCCtx()};

    if (!sv.zstd)
        abort(); /* as the allocators do when memory is gone */
    RedisModule_SaveUnsigned(io, (uint64_t)s->day);
    RedisModule_SaveUnsigned(io, s->rows);
    jc_rows_reset(&rows_at_hand);
    each_row(s, save_row, &sv);
    save_chunk(&sv);
    ZSTD_freeCCtx(sv.zstd);
    jc_buffer_free(&sv.raw);
    jc_buffer_free(&sv.packed);
}

/* Takes the rows of an unpacked chunk; a constant text says what is wrong. */
static const char *load_rows(struct jc_segment *s, const uint8_t *raw,
                             size_t n, uint64_t rows)
{
    struct mp_reader r;
    struct mp_value ttl;
    struct jc_record rec;

    mp_reader_init(&r, raw, n);
    for (; rows > 0; rows--) {
        const uint8_t *start;
        const char *why;

        if (!mp_read(&r, &ttl) || ttl.type != MP_UINT || ttl.u > JC_TTL_MAX)
            return "a time to live is no number";
        start = r.pos;
        if (!mp_skip(&r))
            return "a record is cut short";
        why = jc_record_decode(&rec, start, (size_t)(r.pos - start));
        if (why)
            return why;
        if (jc_day_of(rec.number[JC_FIELD_END].value) != s->day)
            return "a record belongs to another day";
        if (jc_segment_full(s))
            return "the segment is full";
        if (jc_segment_put(s, &rec, ttl.u) != JC_PUT_NEW)
            return "a run is there twice";
    }
    return r.pos == r.end ? NULL : "bytes are left over in a chunk";
}

struct loading {
    uint64_t rows;   /* still to come */
    uint64_t packed; /* bytes so far */
    uint64_t looked; /* jc_segment_blocks_looked before */
};

/* What RESTORE may take of memory and time; NULL when that is well. What a master sends was
 * well there. */
static const char *check_grown(const struct jc_segment *s,
                               const struct loading *ld)
{
    int flags = RedisModule_GetContextFlags(NULL);

    if (flags & (REDISMODULE_CTX_FLAGS_LOADING | REDISMODULE_CTX_FLAGS_SLAVE))
        return NULL;
    if (jc_segment_blocks_looked() - ld->looked >
        LOOKED_FREE + s->rows * LOOKED_TIMES)
        return "a job has too many runs";
    if (jc_segment_bytes(s) > GROWN_FREE + ld->packed * GROWN_TIMES)
        return "it grows to more than 256 times its size";
    if (RedisModule_GetUsedMemoryRatio() > 1)
        return "it grows past maxmemory";
    return NULL;
}

static const char *load_chunk(RedisModuleIO *io, struct jc_segment *s,
                              struct loading *ld)
{
    uint64_t rows = RedisModule_LoadUnsigned(io);
    uint64_t bytes = RedisModule_LoadUnsigned(io);
    size_t n = 0;
    char *packed = NULL;
    uint8_t *raw = NULL;
    const char *why = "the data ends too early";

    if (RedisModule_IsIOError(io))
        return why;
    if (!rows || rows > CHUNK_ROWS || rows > ld->rows || bytes > CHUNK_MAX)
        return "a chunk's head is out of range";
    packed = RedisModule_LoadStringBuffer(io, &n);
    if (!packed || RedisModule_IsIOError(io))
        goto done;
    why = "a chunk is larger packed than unpacked";
    if (n > ZSTD_compressBound(bytes))
        goto done;
    why = "no memory for a chunk";
    raw = jc_host.try_alloc(bytes ? bytes : 1);
    if (!raw)
        goto done;
    why = "a chunk does not unpack to its size";
    if (ZSTD_decompress(raw, bytes, packed, n) != bytes)
        goto done;
    ld->rows -= rows;
    ld->packed += n;
    why = load_rows(s, raw, bytes, rows);
    if (!why)
        why = check_grown(s, ld);
done:
    if (packed)
        RedisModule_Free(packed);
    if (raw)
        jc_host.free(raw);
    return why;
}

/* Lets the server look after its clients, who are told LOADING. It does so by
 * itself after so many bytes of a file, which are a great many jobs. Not while
 * RESTORE runs: that is a command like others. */
static void let_others(RedisModuleIO *io)
{
    RedisModuleCtx *ctx;

    if (!RedisModule_Yield)
        return;
    ctx = RedisModule_GetContextFromIO(io);
    if (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_LOADING)
        RedisModule_Yield(ctx, REDISMODULE_YIELD_FLAG_CLIENTS, NULL);
}

static void *segment_load(RedisModuleIO *io, int version)
{
    struct jc_segment *s;
    const char *why = NULL;
    struct loading ld = {.looked = jc_segment_blocks_looked()};
    uint64_t day;

    if (version != JC_RDB_RECORDS) {
        RedisModule_LogIOError(io, "warning",
                               "slurm_jobcomp: a segment has encoding version "
                               "%d, this module knows up to %d", version,
                               JC_RDB_RECORDS);
        return NULL;
    }
    day = RedisModule_LoadUnsigned(io);
    ld.rows = RedisModule_LoadUnsigned(io);
    if (RedisModule_IsIOError(io))
        return NULL;
    if (day > (uint64_t)jc_day_of(jc_fields[JC_FIELD_END].max) || !ld.rows) {
        RedisModule_LogIOError(io, "warning", "slurm_jobcomp: a segment has no "
                               "day or no rows");
        return NULL;
    }
    s = jc_segment_new((int64_t)day);
    while (ld.rows && !why) {
        why = load_chunk(io, s, &ld);
        let_others(io);
    }
    jc_segment_seal(s);
    if (!why) {
        if (RedisModule_GetKeyNameFromIO(io))
            jc_store_note_key(RedisModule_GetDbIdFromIO(io),
                              RedisModule_GetKeyNameFromIO(io));
        return s;
    }
    RedisModule_LogIOError(io, "warning", "slurm_jobcomp: segment refused: %s",
                           why);
    jc_segment_free(s);
    return NULL;
}

/* ---- AOF ---- */

#define AOF_RECORDS 64
#define AOF_BYTES 262144

struct rewriting {
    RedisModuleIO *io;
    struct jc_slice prefix;
    struct jc_buffer raw;
    RedisModuleString *arg[AOF_RECORDS];
    size_t args;
    uint64_t ttl; /* of the records gathered */
};

static void emit_put(struct rewriting *rw)
{
    if (!rw->args)
        return;
    if (rw->ttl)
        RedisModule_EmitAOF(rw->io, "SLURMJC.PUT", "bclcv", rw->prefix.p,
                            (size_t)rw->prefix.n, "TTL", (long long)rw->ttl,
                            "RECORDS", rw->arg, rw->args);
    else
        RedisModule_EmitAOF(rw->io, "SLURMJC.PUT", "bcv", rw->prefix.p,
                            (size_t)rw->prefix.n, "RECORDS", rw->arg,
                            rw->args);
    for (size_t i = 0; i < rw->args; i++)
        RedisModule_FreeString(NULL, rw->arg[i]);
    rw->args = 0;
    rw->raw.n = 0;
}

static void rewrite_row(void *ctx, const struct jc_segment *s,
                        struct jc_place place)
{
    struct rewriting *rw = ctx;
    uint64_t ttl = ttl_of(s, place);
    size_t n;

    if (rw->args == AOF_RECORDS || rw->raw.n > AOF_BYTES || rw->ttl != ttl)
        emit_put(rw);
    rw->ttl = ttl;
    n = add_record(&rw->raw, s, place);
    rw->arg[rw->args++] = RedisModule_CreateString(
        NULL, (const char *)rw->raw.p + rw->raw.n - n, n);
}

static void segment_rewrite(RedisModuleIO *io, RedisModuleString *key,
                            void *value)
{
    const struct jc_segment *s = value;
    struct rewriting rw = {.io = io};
    int64_t day;

    if (!jc_parse_segment_key(jc_arg(key), &rw.prefix, &day) ||
        day != s->day) {
        RedisModule_LogIOError(io, "warning", "slurm_jobcomp: a segment under "
                               "a name of another form than <prefix>:seg:<day> "
                               "is left out of the AOF; use "
                               "aof-use-rdb-preamble yes");
        return;
    }
    jc_rows_reset(&rows_at_hand);
    each_row(s, rewrite_row, &rw);
    emit_put(&rw);
    jc_buffer_free(&rw.raw);
}

/* ---- the rest of a data type's life ---- */

static uint64_t gone;
static bool trimmed;

uint64_t jc_segments_gone(void)
{
    return gone;
}

void jc_segments_trimmed(bool on)
{
    trimmed = on;
}

/* Called at once, also where free() comes later and from another thread. */
static void segment_unlink(RedisModuleString *key, const void *value)
{
    const struct jc_segment *s = value;
    uint64_t expires = jc_segment_expires(s);

    (void)key;
    gone += s->rows && !trimmed &&
            (!expires ||
             expires > (uint64_t)RedisModule_Milliseconds() / 1000);
}

static void segment_free(void *value)
{
    jc_segment_free(value);
}

static size_t segment_mem_usage(const void *value)
{
    return jc_segment_bytes(value);
}

static size_t segment_free_effort(RedisModuleString *key, const void *value)
{
    const struct jc_segment *s = value;

    (void)key;
    return s->blocks + 1; /* allocations, by and large */
}

static void *defrag_move(void *ctx, void *p)
{
    return RedisModule_DefragAlloc(ctx, p);
}

static bool defrag_stop(void *ctx)
{
    return RedisModule_DefragShouldStop(ctx);
}

/* Large segments come in pieces: their free_effort says that they are large. */
static int segment_defrag(RedisModuleDefragCtx *ctx, RedisModuleString *key,
                          void **value)
{
    struct jc_mover mover = {defrag_move, defrag_stop, ctx};
    unsigned long cursor = 0;
    bool more;

    (void)key;
    RedisModule_DefragCursorGet(ctx, &cursor);
    more = jc_segment_move((struct jc_segment **)value, &cursor, &mover);
    if (more)
        RedisModule_DefragCursorSet(ctx, cursor);
    return more;
}

static void copy_row(void *ctx, const struct jc_segment *s,
                     struct jc_place place)
{
    struct jc_record rec;
    uint64_t ttl;

    jc_segment_get(s, place, &rec, &ttl);
    jc_segment_put(ctx, &rec, ttl);
}

static void *segment_copy(RedisModuleKeyOptCtx *ctx, const void *value)
{
    const struct jc_segment *s = value;
    struct jc_segment *copy = jc_segment_new(s->day);

    each_row(s, copy_row, copy);
    jc_segment_seal(copy);
    jc_store_note_key(RedisModule_GetToDbIdFromOptCtx(ctx),
                      RedisModule_GetToKeyNameFromOptCtx(ctx));
    return copy;
}

struct digesting {
    RedisModuleDigest *digest;
    struct jc_buffer raw;
};

static void digest_row(void *ctx, const struct jc_segment *s,
                       struct jc_place place)
{
    struct digesting *dg = ctx;

    dg->raw.n = 0;
    jc_buffer_add_number(&dg->raw, ttl_of(s, place));
    add_record(&dg->raw, s, place);
    RedisModule_DigestAddStringBuffer(dg->digest, (const char *)dg->raw.p,
                                      dg->raw.n);
    RedisModule_DigestEndSequence(dg->digest);
}

static void segment_digest(RedisModuleDigest *digest, void *value)
{
    struct digesting dg = {.digest = digest};

    jc_rows_reset(&rows_at_hand);
    each_row(value, digest_row, &dg);
    jc_buffer_free(&dg.raw);
}

int jc_segment_type_init(RedisModuleCtx *ctx)
{
    RedisModuleTypeMethods methods = {
        .version = REDISMODULE_TYPE_METHOD_VERSION,
        .rdb_load = segment_load,
        .rdb_save = segment_save,
        .aof_rewrite = segment_rewrite,
        .mem_usage = segment_mem_usage,
        .digest = segment_digest,
        .free = segment_free,
        .unlink = segment_unlink,
        .free_effort = segment_free_effort,
        .defrag = segment_defrag,
        .copy2 = segment_copy,
    };

    jc_segment_type = RedisModule_CreateDataType(ctx, "slurmjseg",
                                                 JC_RDB_RECORDS, &methods);
    return jc_segment_type ? REDISMODULE_OK : REDISMODULE_ERR;
}

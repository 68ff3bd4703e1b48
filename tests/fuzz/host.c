/* SPDX-License-Identifier: MIT */
#include "host.h"

#include <malloc.h>
#include <stdarg.h>
#include <zstd.h>

#include "engine/host.h"

#define UNPACK_MAX (8u << 20)

RedisModuleTypeMethods host_type;
int host_version;

static unsigned fail_at;
static bool save_unpacked;

struct RedisModuleString {
    size_t n;
    char p[];
};

/* ---- memory ---- */

static void *must_alloc(size_t n)
{
    void *p = malloc(n ? n : 1);

    MUST(p);
    return p;
}

static void *must_calloc(size_t count, size_t n)
{
    void *p = calloc(count ? count : 1, n ? n : 1);

    MUST(p);
    return p;
}

static void *must_realloc(void *old, size_t n)
{
    void *p = realloc(old, n ? n : 1);

    MUST(p);
    return p;
}

static void *try_alloc(size_t n)
{
    if (fail_at && !--fail_at)
        return NULL;
    return malloc(n ? n : 1);
}

static size_t size_of(void *p)
{
    return malloc_usable_size(p);
}

void host_fail_alloc(unsigned nth)
{
    fail_at = nth;
}

/* ---- loading ---- */

static uint64_t fail(RedisModuleIO *io)
{
    io->failed = true;
    io->in.n = 0;
    return 0;
}

static uint64_t take_number(RedisModuleIO *io)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b;

        if (!io->in.n)
            return fail(io);
        b = take_byte(&io->in);
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
    return fail(io);
}

static uint64_t load_unsigned(RedisModuleIO *io)
{
    struct input ahead;
    uint64_t n;

    switch (take_byte(&io->in)) {
    case 'u':
        return take_number(io);
    case 'n':
        ahead = io->in;
        take_byte(&io->in);
        n = take_number(io);
        if (!io->failed)
            io->in = ahead;
        return n;
    default:
        return fail(io);
    }
}

static char *load_string(RedisModuleIO *io, size_t *n)
{
    uint8_t kind = take_byte(&io->in);
    uint64_t len = kind == 's' || kind == 'z' ? take_number(io) : fail(io);
    struct input bytes;
    char *out;

    if (io->failed || len > io->in.n) {
        fail(io);
        return NULL;
    }
    bytes = take_bytes(&io->in, len);
    if (kind == 's') {
        out = must_alloc(len);
        if (len)
            memcpy(out, bytes.p, len);
        *n = len;
        return out;
    }
    /* the server's strings have no byte to spare either */
    out = must_alloc(ZSTD_compressBound(len));
    *n = ZSTD_compress(out, ZSTD_compressBound(len), bytes.p, len, 1);
    MUST(!ZSTD_isError(*n));
    return must_realloc(out, *n);
}

/* As for a RESTORE on a master without maxmemory. */
static int context_flags(RedisModuleCtx *ctx)
{
    (void)ctx;
    return 0;
}

static float memory_ratio(void)
{
    return 0;
}

static int is_io_error(RedisModuleIO *io)
{
    return io->failed;
}

/* ---- saving ---- */

static void put(RedisModuleIO *io, const void *bytes, size_t n)
{
    if (io->n + n > io->room) {
        io->room = (io->n + n) * 2;
        io->out = must_realloc(io->out, io->room);
    }
    if (n)
        memcpy(io->out + io->n, bytes, n);
    io->n += n;
}

static void put_tagged(RedisModuleIO *io, char kind, uint64_t v)
{
    uint8_t b;

    put(io, &kind, 1);
    for (; v >= 0x80; v >>= 7) {
        b = (uint8_t)(v | 0x80);
        put(io, &b, 1);
    }
    b = (uint8_t)v;
    put(io, &b, 1);
}

static void save_unsigned(RedisModuleIO *io, uint64_t v)
{
    put_tagged(io, 'u', v);
}

static void save_string(RedisModuleIO *io, const char *p, size_t n)
{
    unsigned long long raw = save_unpacked && n
                                 ? ZSTD_getFrameContentSize(p, n)
                                 : ZSTD_CONTENTSIZE_ERROR;
    char *unpacked;

    if (raw <= UNPACK_MAX) {
        unpacked = must_alloc(raw);
        if (ZSTD_decompress(unpacked, raw, p, n) == raw) {
            put_tagged(io, 'z', raw);
            put(io, unpacked, raw);
            free(unpacked);
            return;
        }
        free(unpacked);
    }
    put_tagged(io, 's', n);
    put(io, p, n);
}

void host_save_unpacked(bool yes)
{
    save_unpacked = yes;
}

/* ---- keys: loaded values and copies lie under names of no segment ---- */

static const RedisModuleString *no_name(RedisModuleIO *io)
{
    (void)io;
    return NULL;
}

static int db_of_io(RedisModuleIO *io)
{
    (void)io;
    return 0;
}

static const RedisModuleString *name_of_copy(RedisModuleKeyOptCtx *ctx)
{
    return (const RedisModuleString *)ctx;
}

static int db_of_copy(RedisModuleKeyOptCtx *ctx)
{
    (void)ctx;
    return 0;
}

/* ---- strings, AOF, log, digest ---- */

static RedisModuleString *create_string(RedisModuleCtx *ctx, const char *p,
                                        size_t n)
{
    RedisModuleString *s = must_alloc(sizeof(*s) + n);

    (void)ctx;
    s->n = n;
    if (n)
        memcpy(s->p, p, n);
    return s;
}

static void free_string(RedisModuleCtx *ctx, RedisModuleString *s)
{
    (void)ctx;
    free(s);
}

static const char *string_ptr(const RedisModuleString *s, size_t *n)
{
    *n = s->n;
    return s->p;
}

/* Reads every byte of every argument. */
static void emit_aof(RedisModuleIO *io, const char *cmd, const char *fmt, ...)
{
    va_list args;
    uint64_t sum = 0;

    va_start(args, fmt);
    for (; *fmt; fmt++) {
        if (*fmt == 'l') {
            sum += va_arg(args, unsigned long long);
        } else if (*fmt == 'c') {
            sum += strlen(va_arg(args, const char *));
        } else if (*fmt == 'b') {
            const char *p = va_arg(args, const char *);
            size_t n = va_arg(args, size_t);

            while (n--)
                sum += (uint8_t)p[n];
        } else if (*fmt == 'v') {
            RedisModuleString **v = va_arg(args, RedisModuleString **);
            size_t n = va_arg(args, size_t);

            MUST(n);
            while (n--)
                for (size_t i = 0; i < v[n]->n; i++)
                    sum += (uint8_t)v[n]->p[i];
        } else {
            MUST(!"a format that is known");
        }
    }
    va_end(args);
    io->replayed = cmd;
    io->bytes_sum += sum;
    io->commands++;
}

static void log_io_error(RedisModuleIO *io, const char *level,
                         const char *format, ...)
{
    char line[1024];
    va_list args;

    MUST(!strcmp(level, "warning") || !strcmp(level, "notice"));
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    io->logged++;
}

static void digest_add(RedisModuleDigest *digest, const char *p, size_t n)
{
    uint64_t *sum = (uint64_t *)digest;

    for (size_t i = 0; i < n; i++)
        *sum = *sum * 31 + (uint8_t)p[i];
}

static void digest_add_number(RedisModuleDigest *digest, long long v)
{
    digest_add(digest, (const char *)&v, sizeof(v));
}

static void digest_end(RedisModuleDigest *digest)
{
    digest_add(digest, "|", 1);
}

static RedisModuleType *create_type(RedisModuleCtx *ctx, const char *name,
                                    int version, RedisModuleTypeMethods *m)
{
    (void)ctx;
    host_version = version;
    MUST(strlen(name) == 9);
    host_type = *m;
    return (RedisModuleType *)&host_type;
}

void host_init(void)
{
    jc_host.alloc = must_alloc;
    jc_host.try_alloc = try_alloc;
    jc_host.resize = must_realloc;
    jc_host.free = free;
    jc_host.size_of = size_of;
    RedisModule_Alloc = must_alloc;
    RedisModule_Calloc = must_calloc;
    RedisModule_Realloc = must_realloc;
    RedisModule_TryAlloc = try_alloc;
    RedisModule_Free = free;
    RedisModule_MallocSize = size_of;
    RedisModule_LoadUnsigned = load_unsigned;
    RedisModule_LoadStringBuffer = load_string;
    RedisModule_IsIOError = is_io_error;
    RedisModule_GetContextFlags = context_flags;
    RedisModule_GetUsedMemoryRatio = memory_ratio;
    RedisModule_SaveUnsigned = save_unsigned;
    RedisModule_SaveStringBuffer = save_string;
    RedisModule_GetKeyNameFromIO = no_name;
    RedisModule_GetDbIdFromIO = db_of_io;
    RedisModule_GetToKeyNameFromOptCtx = name_of_copy;
    RedisModule_GetToDbIdFromOptCtx = db_of_copy;
    RedisModule_CreateString = create_string;
    RedisModule_FreeString = free_string;
    RedisModule_StringPtrLen = string_ptr;
    RedisModule_EmitAOF = emit_aof;
    RedisModule_LogIOError = log_io_error;
    RedisModule_DigestAddStringBuffer = digest_add;
    RedisModule_DigestAddLongLong = digest_add_number;
    RedisModule_DigestEndSequence = digest_end;
    RedisModule_CreateDataType = create_type;
}

/* SPDX-License-Identifier: MIT */
/*
 * Bytes as a segment of an RDB file or a RESTORE: refused, with everything
 * freed, or a segment that lives through all of its type's methods and is
 * loaded again from what it saves.
 *
 * The first byte is the encoding version, the second which allocation fails;
 * the values of host.h follow.
 */
#include "host.h"
#include "jobs.h"
#include "segment_type.h"

/* Into the folder that FUZZ_SEEDS names: make_seeds.py. */
static void write_seeds(const char *folder);

static void *load(RedisModuleIO *io, int version)
{
    void *value = host_type.rdb_load(io, version);

    free(io->out);
    io->out = NULL;
    return value;
}

static uint64_t digest(void *value)
{
    uint64_t sum = 0;

    host_type.digest((RedisModuleDigest *)&sum, value);
    return sum;
}

/* Saving, loading, saving gives the same bytes, and nothing else differs. */
static void go_round(void *value)
{
    RedisModuleIO first = {0}, second = {0}, from;
    uint64_t before = digest(value);
    void *again;

    host_type.rdb_save(&first, value);
    MUST(digest(value) == before);
    from = (RedisModuleIO){.in = {first.out, first.n}};
    again = load(&from, host_version);
    MUST(again && !from.failed && !from.in.n);
    MUST(digest(again) == before);
    host_type.rdb_save(&second, again);
    MUST(first.n == second.n && !memcmp(first.out, second.out, first.n));
    host_type.free(again);
    free(first.out);
    free(second.out);
}

static void live(void *value)
{
    RedisModuleString *name = RedisModule_CreateString(NULL, "job:seg:19000",
                                                       13);
    RedisModuleString *other = RedisModule_CreateString(NULL, "copy", 4);
    RedisModuleIO io = {0};
    void *copy = host_type.copy2((RedisModuleKeyOptCtx *)other, value);

    MUST(digest(copy) == digest(value));
    host_type.aof_rewrite(&io, name, value);
    MUST(io.commands || io.logged);
    MUST(host_type.mem_usage(value) > 0);
    host_type.free(copy);
    RedisModule_FreeString(NULL, name);
    RedisModule_FreeString(NULL, other);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    host_init();
    MUST(jc_segment_type_init(NULL) == REDISMODULE_OK);
    if (getenv("FUZZ_SEEDS"))
        write_seeds(getenv("FUZZ_SEEDS"));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    RedisModuleIO io = {.in = {data, size}};
    uint8_t version = take_byte(&io.in);
    void *value;

    host_fail_alloc(take_byte(&io.in));
    value = load(&io, version);
    host_fail_alloc(0);
    if (!value) {
        MUST(io.failed || io.logged);
        return 0;
    }
    MUST(!io.failed);
    live(value);
    go_round(value);
    host_type.free(value);
    return 0;
}

/* ---- seeds ---- */

/* Packs count jobs into a segment and writes what it saves to a file. */
static void write_seed(const char *folder, unsigned count, bool unpacked)
{
    struct jc_segment *s = jc_segment_new(FUZZ_DAY);
    RedisModuleIO io = {0};
    uint64_t random = count;
    char path[4096];
    FILE *file;

    for (unsigned i = 0; i < count; i++) {
        uint8_t bytes[200], extra[64];
        struct jc_record rec;

        for (unsigned b = 0; b < sizeof(bytes); b++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            bytes[b] = (uint8_t)(random >> 56) % 250;
        }
        bytes[0] = (uint8_t)(i << 5 | 7);
        rec = job_from(&(struct input){bytes, sizeof(bytes)}, extra);
        jc_segment_put(s, &rec, i % 3);
    }
    host_save_unpacked(unpacked);
    host_type.rdb_save(&io, s);
    host_save_unpacked(false);
    snprintf(path, sizeof(path), "%s/%u-jobs%s", folder, count,
             unpacked ? "-unpacked" : "");
    file = fopen(path, "wb");
    MUST(file);
    fputc(host_version, file);
    fputc(0, file);
    MUST(fwrite(io.out, 1, io.n, file) == io.n);
    MUST(!fclose(file));
    free(io.out);
    jc_segment_free(s);
}

static void write_seeds(const char *folder)
{
    static const unsigned counts[] = {1, 2, 5, 20};

    for (unsigned i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
        write_seed(folder, counts[i], false);
        write_seed(folder, counts[i], true);
    }
}

/* SPDX-License-Identifier: MIT */
/* slurm_jobcomp.so: loading, and the table of commands. */
#include "commands.h"
#include "queries.h"
#include "segment_type.h"
#include "store.h"

#include <string.h>

#define OLDEST_SERVER 0x00070000 /* command info and module settings came then */

/* ---- the engine's host ---- */

static void *host_alloc(size_t bytes)
{
    return RedisModule_Alloc(bytes);
}

static void *host_try_alloc(size_t bytes)
{
    return RedisModule_TryAlloc(bytes);
}

static void *host_resize(void *p, size_t bytes)
{
    return RedisModule_Realloc(p, bytes);
}

static void host_free(void *p)
{
    RedisModule_Free(p);
}

static size_t host_size_of(void *p)
{
    return RedisModule_MallocSize(p);
}

static void host_init(void)
{
    jc_host = (struct jc_host){
        .alloc = host_alloc,
        .try_alloc = host_try_alloc,
        .resize = host_resize,
        .free = host_free,
        .size_of = host_size_of,
    };
    RedisModule_GetRandomBytes((unsigned char *)&jc_host.hash_seed,
                               sizeof(jc_host.hash_seed));
}

/* ---- commands ---- */

#define ARG_STRING REDISMODULE_ARG_TYPE_STRING
#define ARG_NUMBER REDISMODULE_ARG_TYPE_INTEGER
#define ARG_TOKEN REDISMODULE_ARG_TYPE_PURE_TOKEN
#define ARG_BLOCK REDISMODULE_ARG_TYPE_BLOCK
#define ARG_ONEOF REDISMODULE_ARG_TYPE_ONEOF
#define OPTIONAL REDISMODULE_CMD_ARG_OPTIONAL
#define MULTIPLE REDISMODULE_CMD_ARG_MULTIPLE

#define PREFIX {.name = "prefix", .type = REDISMODULE_ARG_TYPE_KEY, \
                .key_spec_index = 0}
#define CRITERIA {.name = "criterion", .type = ARG_BLOCK, \
                  .flags = OPTIONAL | MULTIPLE, .subargs = criterion_args}

static RedisModuleCommandArg criterion_args[] = {
    {.name = "name", .type = ARG_STRING},
    {.name = "value", .type = ARG_STRING},
    {0}};
static RedisModuleCommandArg last_args[] = {
    {.name = "last", .type = ARG_NUMBER, .token = "LAST"},
    {.name = "offsets", .type = ARG_STRING, .token = "AT", .flags = OPTIONAL},
    {0}};
static RedisModuleCommandArg spool_args[] = {
    {.name = "id", .type = ARG_STRING, .token = "SPOOL"},
    {.name = "seq", .type = ARG_NUMBER},
    {.name = "some", .type = ARG_BLOCK, .flags = OPTIONAL,
     .subargs = last_args},
    {.name = "gap", .type = ARG_TOKEN, .token = "GAP", .flags = OPTIONAL},
    {0}};
static RedisModuleCommandArg events_args[] = {
    {.name = "keep", .type = ARG_NUMBER, .token = "EVENTS"},
    {.name = "unix-time-milliseconds", .type = ARG_NUMBER},
    {0}};
static RedisModuleCommandArg put_args[] = {
    PREFIX,
    {.name = "seconds", .type = ARG_NUMBER, .token = "TTL", .flags = OPTIONAL},
    {.name = "spool", .type = ARG_BLOCK, .flags = OPTIONAL,
     .subargs = spool_args},
    {.name = "events", .type = ARG_BLOCK, .flags = OPTIONAL,
     .subargs = events_args},
    {.name = "record", .type = ARG_STRING, .token = "RECORDS",
     .flags = OPTIONAL | MULTIPLE},
    {0}};
static RedisModuleCommandArg index_args[] = {
    PREFIX, {.name = "jobid", .type = ARG_NUMBER}, {0}};
static RedisModuleCommandArg match_args[] = {
    PREFIX, {.name = "id", .type = ARG_STRING}, CRITERIA, {0}};
static RedisModuleCommandArg page_args[] = {
    {.name = "max", .type = ARG_NUMBER},
    {.name = "records", .type = ARG_TOKEN, .token = "RECORDS",
     .flags = OPTIONAL},
    {.name = "keys", .type = ARG_TOKEN, .token = "KEYS", .flags = OPTIONAL},
    {0}};
static RedisModuleCommandArg fetch_what[] = {
    {.name = "page", .type = ARG_BLOCK, .subargs = page_args},
    {.name = "close", .type = ARG_TOKEN, .token = "CLOSE"},
    {0}};
static RedisModuleCommandArg fetch_args[] = {
    PREFIX,
    {.name = "id", .type = ARG_STRING},
    {.name = "what", .type = ARG_ONEOF, .subargs = fetch_what},
    {0}};
static RedisModuleCommandArg agg_args[] = {
    PREFIX,
    {.name = "field", .type = ARG_STRING, .token = "BY", .flags = MULTIPLE},
    CRITERIA, {0}};
static RedisModuleCommandArg info_what[] = {
    {.name = "segments", .type = ARG_TOKEN, .token = "SEGMENTS"},
    {.name = "replication", .type = ARG_TOKEN, .token = "REPLICATION"},
    {0}};
static RedisModuleCommandArg info_args[] = {
    PREFIX,
    {.name = "more", .type = ARG_ONEOF, .flags = OPTIONAL,
     .subargs = info_what},
    {0}};
static RedisModuleCommandArg take_args[] = {
    PREFIX,
    {.name = "cursor", .type = ARG_NUMBER},
    {.name = "count", .type = ARG_NUMBER},
    {.name = "cluster", .type = ARG_STRING, .token = "CLUSTER",
     .flags = OPTIONAL},
    {.name = "seconds", .type = ARG_NUMBER, .token = "TTL", .flags = OPTIONAL},
    {.name = "epoch-seconds", .type = ARG_NUMBER, .token = "SINCE",
     .flags = OPTIONAL},
    {.name = "indexes", .type = ARG_TOKEN, .token = "INDEXES",
     .flags = OPTIONAL},
    {.name = "dryrun", .type = ARG_TOKEN, .token = "DRYRUN", .flags = OPTIONAL},
    {0}};
static RedisModuleCommandArg day_args[] = {
    {.name = "day", .type = ARG_NUMBER, .token = "DAY"},
    {.name = "stamp", .type = ARG_STRING, .token = "IF", .flags = OPTIONAL},
    {0}};
static RedisModuleCommandArg days_args[] = {
    {.name = "epoch-seconds", .type = ARG_NUMBER, .token = "BEFORE"},
    {.name = "one", .type = ARG_BLOCK, .subargs = day_args},
    {0}};
static RedisModuleCommandArg trim_args[] = {
    PREFIX,
    {.name = "days", .type = REDISMODULE_ARG_TYPE_ONEOF, .subargs = days_args},
    {0}};

#define READS (REDISMODULE_CMD_KEY_RO | REDISMODULE_CMD_KEY_ACCESS)

struct command {
    const char *name;
    RedisModuleCmdFunc handler;
    const char *flags;
    const char *acl; /* categories, where the server has them */
    uint64_t key_flags;
    int arity;
    const char *summary, *complexity;
    RedisModuleCommandArg *args;
};

/* fast stands nowhere on purpose: each of them may walk segments. */
static const struct command commands[] = {
    {"slurmjc.put", jc_put_command, "write deny-oom", "write",
     REDISMODULE_CMD_KEY_RW | REDISMODULE_CMD_KEY_UPDATE, -3,
     "Stores a batch of job records, all or nothing.",
     "O(N) with N records", put_args},
    {"slurmjc.index", jc_index_command, "write deny-oom", "write",
     REDISMODULE_CMD_KEY_RW | REDISMODULE_CMD_KEY_ACCESS |
         REDISMODULE_CMD_KEY_UPDATE, 3,
     "Takes in a job hash that an upstream plugin wrote.", "O(1)",
     index_args},
    {"slurmjc.match", jc_match_command, "readonly", "read", READS, -3,
     "Opens a query for jobs.",
     "O(N) with N jobs up to the first that matches", match_args},
    {"slurmjc.fetch", jc_fetch_command, "readonly", "read", READS, -4,
     "Gives the next jobs of an open query.",
     "O(N) with N jobs looked at", fetch_args},
    {"slurmjc.get", jc_get_command, "readonly", "read", READS, 3,
     "Shows every run of a job id, field by field.",
     "O(S) with S segments", index_args},
    {"slurmjc.agg", jc_agg_command, "readonly", "read", READS, -4,
     "Counts jobs and sums their seconds, by one or two fields.",
     "O(N) with N jobs looked at", agg_args},
    {"slurmjc.info", jc_info_command, "readonly", "read", READS, -2,
     "Tells how much is stored, and the server settings that matter.",
     "O(S) with S segments", info_args},
    /* no deny-oom: what it stores is a tenth of what it deletes */
    {"slurmjc.take", jc_take_command, "write", "write",
     REDISMODULE_CMD_KEY_RW | REDISMODULE_CMD_KEY_ACCESS |
         REDISMODULE_CMD_KEY_UPDATE, -4,
     "Takes in a slice of the job hashes that upstream plugins left.",
     "O(N) with N keys looked at", take_args},
    {"slurmjc.trim", jc_trim_command, "write", "write",
     REDISMODULE_CMD_KEY_RW | REDISMODULE_CMD_KEY_DELETE, -4,
     "Deletes the segments that end before a time, or that of a day.",
     "O(S) with S segments", trim_args},
};

/* Not in the header of the oldest server. */
typedef int set_acl_categories(RedisModuleCommand *command,
                               const char *categories);

static int add_command(RedisModuleCtx *ctx, const struct command *c,
                       set_acl_categories *set_acl)
{
    RedisModuleCommandKeySpec specs[] = {
        {.flags = c->key_flags,
         .begin_search_type = REDISMODULE_KSPEC_BS_INDEX,
         .bs.index = {.pos = 1},
         .find_keys_type = REDISMODULE_KSPEC_FK_RANGE,
         .fk.range = {.lastkey = 0, .keystep = 1, .limit = 0}},
        {0}};
    RedisModuleCommandInfo info = {
        .version = REDISMODULE_COMMAND_INFO_VERSION,
        .summary = c->summary,
        .complexity = c->complexity,
        .since = JC_MODULE_VERSION,
        .arity = c->arity,
        .key_specs = specs,
        .args = c->args,
    };
    RedisModuleCommand *command;

    if (RedisModule_CreateCommand(ctx, c->name, c->handler, c->flags, 1, 1,
                                  1) != REDISMODULE_OK)
        return REDISMODULE_ERR;
    command = RedisModule_GetCommand(ctx, c->name);
    if (!command ||
        RedisModule_SetCommandInfo(command, &info) != REDISMODULE_OK)
        return REDISMODULE_ERR;
    return set_acl ? set_acl(command, c->acl) : REDISMODULE_OK;
}

/* ---- loading ---- */

/* Calls the module can't do without; an older server leaves them NULL. */
static bool server_can(void)
{
    return RedisModule_GetServerVersion && RedisModule_SetCommandInfo &&
           RedisModule_TryAlloc && RedisModule_SetAbsExpire && RedisModule_GetAbsExpire &&
           RedisModule_GetCommand && RedisModule_ReplyWithMap &&
           RedisModule_EventLoopAdd &&
           RedisModule_GetServerVersion() >= OLDEST_SERVER;
}

static int refuse(RedisModuleCtx *ctx, const char *why)
{
    RedisModule_Log(ctx, "warning", "slurm_jobcomp is not loaded: %s", why);
    return REDISMODULE_ERR;
}

__attribute__((visibility("default")))
int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
    set_acl_categories *set_acl = NULL;
    uint64_t lifetime = JC_QUERY_LIFETIME;

    if (RedisModule_Init(ctx, "slurm_jobcomp", JC_MODULE_VERSION_NUMBER,
                         REDISMODULE_APIVER_1) != REDISMODULE_OK)
        return REDISMODULE_ERR;
    if (!server_can())
        return refuse(ctx, "it needs Redis 7.0 or later, or Valkey");
    if (argc && (argc != 2 || !jc_arg_is(argv[0], "QUERY-LIFETIME") ||
                 !jc_parse_number(jc_arg(argv[1]), JC_QUERY_LIFETIME_MAX,
                                  &lifetime) || !lifetime))
        return refuse(ctx, "its only argument is QUERY-LIFETIME seconds, from "
                      "1 to 86400");
    host_init();
    RedisModule_SetModuleOptions(ctx, REDISMODULE_OPTIONS_HANDLE_IO_ERRORS);
    if (jc_segment_type_init(ctx) != REDISMODULE_OK)
        return refuse(ctx, "the server refused the data type 'slurmjseg'");
    jc_queries_init(lifetime);
    jc_store_init();
    if (jc_store_listen(ctx) != REDISMODULE_OK)
        return refuse(ctx, "the server refused a subscription to events");
    RedisModule_GetApi("RedisModule_SetCommandACLCategories",
                       (void **)&set_acl);
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
        if (add_command(ctx, &commands[i], set_acl) != REDISMODULE_OK)
            return refuse(ctx, "the server refused a command; is another "
                          "module of this name loaded?");
    return REDISMODULE_OK;
}

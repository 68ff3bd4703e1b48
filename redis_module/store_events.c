/* SPDX-License-Identifier: MIT */
/*
 * How the module learns of segments that come and go without its commands.
 *
 * Redis tells by keyspace events. On Valkey a module that listens to them does
 * harm: an event of another database (MOVE, COPY ... DB) leaves the client that
 * caused it in that database (seen with 8.1.1). There the type's load and copy
 * tell, a command filter sees RENAME and MOVE coming, and after an AOF was
 * loaded the keyspace is walked once. Days are a superset, so a key that does
 * not come after all costs a look-up and nothing else.
 */
#include "store.h"

#include <string.h>

static bool one_of(const char *event, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(event, *words))
            return true;
    return false;
}

static int on_key_event(RedisModuleCtx *ctx, int type, const char *event,
                        RedisModuleString *key)
{
    static const char *const comes[] = {"loaded", "restore", "rename_to",
                                        "copy_to", "move_to", NULL};
    static const char *const goes[] = {"del", "expired", "evicted",
                                       "rename_from", "move_from", NULL};
    struct jc_slice prefix;
    int64_t day;

    (void)type;
    if (!jc_parse_segment_key(jc_arg(key), &prefix, &day))
        return REDISMODULE_OK;
    if (one_of(event, comes))
        jc_store_add_day(RedisModule_GetSelectedDb(ctx), prefix, day);
    else if (one_of(event, goes))
        jc_store_remove_day(RedisModule_GetSelectedDb(ctx), prefix, day);
    return REDISMODULE_OK;
}

static void on_flush(RedisModuleCtx *ctx, RedisModuleEvent e, uint64_t sub,
                     void *data)
{
    const RedisModuleFlushInfo *info = data;

    (void)ctx;
    (void)e;
    if (sub == REDISMODULE_SUBEVENT_FLUSHDB_START)
        jc_store_flush(info->dbnum);
}

static void on_swap(RedisModuleCtx *ctx, RedisModuleEvent e, uint64_t sub,
                    void *data)
{
    const RedisModuleSwapDbInfo *info = data;

    (void)ctx;
    (void)e;
    (void)sub;
    jc_store_swap(info->dbnum_first, info->dbnum_second);
}

/* ---- Valkey ---- */

/* Not in the header of the oldest server. */
static unsigned long long (*filter_client)(RedisModuleCommandFilterCtx *);

static int filter_db(RedisModuleCommandFilterCtx *filter)
{
    RedisModuleClientInfo info = {.version = REDISMODULE_CLIENTINFO_VERSION};

    if (!filter_client ||
        RedisModule_GetClientInfoById(&info, filter_client(filter)) !=
            REDISMODULE_OK)
        return 0; /* a script: they stay in database 0, mostly */
    return info.db;
}

/* RENAME key newkey, RENAMENX key newkey, MOVE key db */
static void on_command(RedisModuleCommandFilterCtx *filter)
{
    const RedisModuleString *name, *target;
    long long db;

    if (RedisModule_CommandFilterArgsCount(filter) != 3)
        return;
    name = RedisModule_CommandFilterArgGet(filter, 0);
    target = RedisModule_CommandFilterArgGet(filter, 2);
    if (jc_arg_is(name, "RENAME") || jc_arg_is(name, "RENAMENX"))
        jc_store_note_key(filter_db(filter), target);
    else if (jc_arg_is(name, "MOVE") &&
             RedisModule_StringToLongLong(target, &db) == REDISMODULE_OK &&
             db >= 0 && db <= INT32_MAX)
        jc_store_note_key((int)db, RedisModule_CommandFilterArgGet(filter, 1));
}

static void on_scanned(RedisModuleCtx *ctx, RedisModuleString *name,
                       RedisModuleKey *key, void *data)
{
    (void)key;
    (void)data;
    jc_store_note_key(RedisModule_GetSelectedDb(ctx), name);
}

/* An AOF is loaded past the filter. */
static void on_loading(RedisModuleCtx *ctx, RedisModuleEvent e, uint64_t sub,
                       void *data)
{
    int before = RedisModule_GetSelectedDb(ctx);

    (void)e;
    (void)data;
    if (sub != REDISMODULE_SUBEVENT_LOADING_ENDED)
        return;
    for (int db = 0; RedisModule_SelectDb(ctx, db) == REDISMODULE_OK; db++) {
        RedisModuleScanCursor *cursor = RedisModule_ScanCursorCreate();

        while (RedisModule_DbSize(ctx) &&
               RedisModule_Scan(ctx, cursor, on_scanned, NULL))
            ;
        RedisModule_ScanCursorDestroy(cursor);
    }
    RedisModule_SelectDb(ctx, before);
}

static bool is_valkey(RedisModuleCtx *ctx)
{
    RedisModuleServerInfoData *info = RedisModule_GetServerInfo(ctx, "server");
    bool valkey = RedisModule_ServerInfoGetFieldC(info, "valkey_version");

    RedisModule_FreeServerInfo(ctx, info);
    return valkey;
}

static int listen_to_keys(RedisModuleCtx *ctx)
{
    if (!is_valkey(ctx))
        return RedisModule_SubscribeToKeyspaceEvents(
            ctx, REDISMODULE_NOTIFY_GENERIC | REDISMODULE_NOTIFY_EXPIRED |
                     REDISMODULE_NOTIFY_EVICTED | REDISMODULE_NOTIFY_LOADED,
            on_key_event);
    RedisModule_GetApi("RedisModule_CommandFilterGetClientId",
                       (void **)&filter_client);
    if (!RedisModule_RegisterCommandFilter(ctx, on_command, 0))
        return REDISMODULE_ERR;
    return RedisModule_SubscribeToServerEvent(ctx, RedisModuleEvent_Loading,
                                              on_loading);
}

int jc_store_listen(RedisModuleCtx *ctx)
{
    if (listen_to_keys(ctx) != REDISMODULE_OK ||
        RedisModule_SubscribeToServerEvent(ctx, RedisModuleEvent_FlushDB,
                                           on_flush) != REDISMODULE_OK ||
        RedisModule_SubscribeToServerEvent(ctx, RedisModuleEvent_SwapDB,
                                           on_swap) != REDISMODULE_OK)
        return REDISMODULE_ERR;
    return REDISMODULE_OK;
}

/* SPDX-License-Identifier: MIT */
#include "hash_intake.h"

#include "segment_type.h"
#include "upstream.h"

struct jc_slice jc_hash_cluster(RedisModuleCtx *ctx, struct jc_slice prefix,
                                RedisModuleKey **key)
{
    RedisModuleString *name =
        jc_key_name(ctx, prefix, NULL, (struct jc_slice){"cluster", 7});
    struct jc_slice cluster = {NULL, 0};
    size_t n = 0;

    *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    if (*key && RedisModule_KeyType(*key) == REDISMODULE_KEYTYPE_STRING) {
        cluster.p = RedisModule_StringDMA(*key, &n, REDISMODULE_READ);
        cluster.n = (uint32_t)n;
    }
    return cluster;
}

/* NULL, or why the hash is no job's. */
static const char *read_job(struct jc_hash *h, struct jc_slice job_id,
                            struct jc_slice cluster)
{
    const char *why = jc_upstream_record(h->key, cluster, &h->rec, &h->extra);
    uint64_t id;

    if (why)
        return why;
    if (!jc_parse_number(job_id, UINT32_MAX, &id) ||
        id != h->rec.number[JC_FIELD_JOB_ID].value)
        return "JobID is another than the key's name says";
    jc_buffer_add_record(&h->raw, &h->rec);
    return jc_record_decode(&h->rec, h->raw.p, h->raw.n);
}

enum jc_hash_kind jc_hash_open(struct jc_hash *h, RedisModuleCtx *ctx,
                               struct jc_slice prefix, struct jc_slice job_id,
                               struct jc_slice cluster, const char **why)
{
    int type;

    *h = (struct jc_hash){.name = jc_key_name(ctx, prefix, NULL, job_id)};
    h->key = RedisModule_OpenKey(ctx, h->name,
                                 REDISMODULE_READ | REDISMODULE_WRITE);
    type = RedisModule_KeyType(h->key);
    if (type == REDISMODULE_KEYTYPE_EMPTY)
        return JC_HASH_NONE;
    if (type != REDISMODULE_KEYTYPE_HASH)
        return JC_HASH_OTHER;
    h->expires = RedisModule_GetAbsExpire(h->key);
    *why = read_job(h, job_id, cluster);
    return *why ? JC_HASH_BAD : JC_HASH_JOB;
}

uint64_t jc_hash_ttl(const struct jc_hash *h, uint64_t otherwise)
{
    uint64_t end = h->rec.number[JC_FIELD_END].value;
    uint64_t s = h->expires > 0 ? (uint64_t)h->expires / 1000 : 0;

    if (h->expires == REDISMODULE_NO_EXPIRE)
        return otherwise;
    s = s > end ? s - end : 1;
    return s < JC_TTL_MAX ? s : JC_TTL_MAX;
}

void jc_hash_unlink(struct jc_hash *h, RedisModuleCtx *ctx)
{
    RedisModule_UnlinkKey(h->key);
    RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_GENERIC, "del",
                                    h->name);
}

void jc_hash_close(struct jc_hash *h)
{
    RedisModule_CloseKey(h->key);
    jc_buffer_free(&h->extra);
    jc_buffer_free(&h->raw);
}

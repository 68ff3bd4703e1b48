/* SPDX-License-Identifier: MIT */
/*
 * A stand-in for the server: as much of the module API as a data type and
 * what it links uses, over a buffer of bytes.
 *
 * The bytes are a list of values, each behind a letter:
 *   u <number>            an unsigned number
 *   s <number> <bytes>    a string of that many bytes
 *   z <number> <bytes>    a string: these bytes packed by zstd
 *   n                     the number of bytes of the next s or z
 * Numbers have seven bits a byte, lowest first. What does not fit the call, or
 * is cut short, is an I/O error for this and every later call, as with Redis.
 */
#ifndef SLURMJCD_FUZZ_HOST_H
#define SLURMJCD_FUZZ_HOST_H

#include "fuzz.h"
#include "redismodule.h"

struct RedisModuleIO {
    struct input in;      /* to be loaded */
    bool failed;
    uint8_t *out;         /* saved, free() it */
    size_t n, room;
    const char *replayed; /* last command of a rewritten AOF, or NULL */
    unsigned commands;
    uint64_t bytes_sum;   /* over the arguments of these commands */
    unsigned logged;      /* lines */
};

/* The methods that the module gave its data type, and the encoding version
 * that it saves. */
extern RedisModuleTypeMethods host_type;
extern int host_version;

/* Fills in RedisModule_… and jc_host. */
void host_init(void);

/* The nth allocation of those that may fail does, 0: none. */
void host_fail_alloc(unsigned nth);

/* Packed strings are saved unpacked, as z: so that inputs can be changed. */
void host_save_unpacked(bool yes);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of users and groups, asked of NSS and remembered. For the sender
 * thread only: an LDAP server that is away must never hold up the hook.
 */
#ifndef JOBCOMP_REDIS_NAMES_H
#define JOBCOMP_REDIS_NAMES_H

#include <stdint.h>

/* The name, or NULL when the id has none. Good until the next call. */
extern const char *names_user(uint32_t uid);
extern const char *names_group(uint32_t gid);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC-32C (Castagnoli), with the processor's instruction where it has one. */
#ifndef JOBCOMP_REDIS_CRC32C_H
#define JOBCOMP_REDIS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C of size bytes; 0xe3069283 for "123456789". */
extern uint32_t crc32c(const void *buf, size_t size);

#endif

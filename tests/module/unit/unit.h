/* SPDX-License-Identifier: MIT */
/* cmocka and what it wants included before it. */
#ifndef SLURMJCD_MODULE_UNIT_H
#define SLURMJCD_MODULE_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SLICE(text) ((struct jc_slice){(text), (uint32_t)strlen(text)})

#endif

/* SPDX-License-Identifier: MIT */
/* Values of a JSON text (RFC 8259), written into a buffer that has room. Each
 * function returns where the next byte goes. */
#ifndef SLURMJCD_JSON_H
#define SLURMJCD_JSON_H

#include "record.h"

#define JC_JSON_NUMBER_MAX 20 /* bytes of a number */
#define JC_JSON_BYTE_MAX 6    /* bytes that one of a string becomes */

char *jc_json_number(char *p, uint64_t v);

/* In quotes, nil as null. What is no UTF-8 becomes U+FFFD, one for each part
 * that begins like a sequence: as Python's errors="replace" has it. */
char *jc_json_string(char *p, struct jc_slice s);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Text without snprintf: the reference jobs are made while something is
 * measured, and ten formats a job cost more than the hook that is called.
 * Each function writes at *at, moves it and keeps the text ended with NUL. The
 * caller has room for what it writes.
 */
#ifndef SLURMJCD_WRITE_TEXT_H
#define SLURMJCD_WRITE_TEXT_H

#include <string.h>

static inline void add_bytes(char **at, const char *s, size_t n)
{
    memcpy(*at, s, n);
    *at += n;
    **at = '\0';
}

static inline void add_string(char **at, const char *s)
{
    add_bytes(at, s, strlen(s));
}

/* A number with at least width digits. */
static inline void add_number(char **at, unsigned value, unsigned base,
                              unsigned width)
{
    char digits[32];
    unsigned n = sizeof(digits);

    do {
        digits[--n] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (sizeof(digits) - n < width)
        digits[--n] = '0';
    add_bytes(at, digits + n, sizeof(digits) - n);
}

#endif

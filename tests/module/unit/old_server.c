/* SPDX-License-Identifier: MIT */
/*
 * A server too old for the module: it has the calls that Redis 5 has for a
 * module to say who it is, and nothing else. Prints what the module logs;
 * exits with 0 when the module refused to be loaded. Usage: old_server MODULE
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { OK, ERR };

static void set_attributes(void *ctx, const char *name, int ver, int apiver)
{
    (void)ctx;
    (void)ver;
    printf("%s asks for API version %d\n", name, apiver);
}

static int name_is_busy(const char *name)
{
    (void)name;
    return 0;
}

__attribute__((format(printf, 3, 4)))
static void take_log(void *ctx, const char *level, const char *format, ...)
{
    va_list args;

    (void)ctx;
    printf("%s: ", level);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

static int get_api(const char *name, void **out)
{
    if (!strcmp(name, "RedisModule_SetModuleAttribs"))
        *(void (**)(void *, const char *, int, int))out = set_attributes;
    else if (!strcmp(name, "RedisModule_IsModuleNameBusy"))
        *(int (**)(const char *))out = name_is_busy;
    else if (!strcmp(name, "RedisModule_Log"))
        *(void (**)(void *, const char *, const char *, ...))out = take_log;
    else
        return ERR;
    return OK;
}

int main(int argc, char **argv)
{
    void *module = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    void *ctx[64] = {0};
    int (*on_load)(void *, void **, int);

    if (!module) {
        fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "which module?");
        return 2;
    }
    *(void **)&on_load = dlsym(module, "RedisModule_OnLoad");
    if (!on_load)
        return 3;
    *(int (**)(const char *, void **))&ctx[0] = get_api;
    return on_load(ctx, NULL, 0) == ERR ? 0 : 4;
}

/* SPDX-License-Identifier: MIT */
/* The log of zygotes and workers: lines on stderr, which is the daemon's. */
#pragma once

#include <stdarg.h>

/* Looks once at where stderr goes. pool is kept, not copied. */
void say_init(const char *pool);
/* One line. level is one of enum hearth_log_level; task is a task's id, or NULL. Line ends inside
 * the text become spaces. */
void say(int level, const char *task, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void say_v(int level, const char *task, const char *format, va_list ap)
    __attribute__((format(printf, 3, 0)));

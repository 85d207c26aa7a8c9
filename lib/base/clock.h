/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

#define NS_PER_MS  UINT64_C(1000000)
#define NS_PER_SEC UINT64_C(1000000000)

/* CLOCK_MONOTONIC in nanoseconds. Never fails. Thread-safe. Comparable between processes of one
 * boot. */
uint64_t clock_now(void);
/* CLOCK_REALTIME in milliseconds since 1970. */
uint64_t clock_wall_ms(void);

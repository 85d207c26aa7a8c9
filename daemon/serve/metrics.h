/* SPDX-License-Identifier: MIT */
/* Figures of tasks, locks and pools, for INFO. */
#pragma once

#include "daemon/serve/conn.h"

/* A section with its head. 0 or -ENOMEM. */
int metrics_info_tasks(struct serve *s, struct buf *b);
int metrics_info_sync(struct serve *s, struct buf *b);
int metrics_info_pools(struct serve *s, struct buf *b);

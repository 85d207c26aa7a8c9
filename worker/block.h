/* SPDX-License-Identifier: MIT */
/* Raw blocks for handlers, as hearth_handler.h has them in struct hearth_objects. Also in the zygote. Any thread. */
#pragma once

#include "worker/hearth_handler.h"

int block_create(struct hearth_bytes name, uint64_t size, void **ret);
int block_open(struct hearth_bytes name, int readonly, void **ret, uint64_t *ret_size);
int block_unlink(struct hearth_bytes name);
int block_unmap(void *at, uint64_t size);

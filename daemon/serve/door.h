/* SPDX-License-Identifier: MIT */
/* The door: connections for processes that have no path to the socket (lib/wire/control.h, CONTROL_FD_DOOR). */
#pragma once

#include "daemon/serve/conn.h"

int door_open(struct serve *s);
void door_close(struct serve *s);

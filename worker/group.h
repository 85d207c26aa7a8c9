/* SPDX-License-Identifier: MIT */
/* A command's end, where its worker has a control group: all that is in it but the worker itself. */
#pragma once

/* fd: the group's cgroup.procs, open for reading. SIGKILL for everybody in it but this process, until nobody is left or they
 * are being buried. For a process of one thread that has no children it cares for. */
void group_clear(int fd);

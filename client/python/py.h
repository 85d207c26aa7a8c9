/* SPDX-License-Identifier: MIT */
/* The inside of the extension _hearth, shared by its sources and nobody else.
 *
 * All functions need the interpreter lock. NULL, or -1 where they return int: a Python exception is set. */
#pragma once
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <errno.h>
#include <stdint.h>

#include "client/hearth.h"

/* ---- handles: handle.c ---- */

/* Where a daemon listens. Each thread that uses it gets a handle of its own, at first use. */
struct client {
    PyObject_HEAD PyObject *path; /* str; None: as hearth_connect(NULL) */
    unsigned id;                  /* of the threads' tables of handles */
    bool map;                     /* attach when the daemon lets us */
};
extern PyTypeObject client_type;

/* This thread's handle, connected when there is none. */
struct hearth *client_handle(struct client *c);
/* Is work with this handle done in memory, so that it is over at once? Then the interpreter lock is kept: to let it go and take
 * it back costs more than most of the work. */
static inline bool handle_is_mapped(struct hearth *h) {
    return hearth_attached(h) == 2;
}
/* r = call, with the interpreter lock let go while it may wait. */
#define UNLOCKED(r, call)                                                                          \
    do {                                                                                           \
        PyThreadState *unlocked_state = PyEval_SaveThread();                                       \
        (r) = (call);                                                                              \
        PyEval_RestoreThread(unlocked_state);                                                      \
    } while (0)
#define QUICKLY(h, r, call)                                                                        \
    do {                                                                                           \
        if (handle_is_mapped(h)) {                                                                 \
            (r) = (call);                                                                          \
        } else {                                                                                   \
            UNLOCKED(r, call);                                                                     \
        }                                                                                          \
    } while (0)
/* The same with a call that may wait, for `wait_ms`, which is a variable: in memory at once first, then as long as ms says. */
#define WAITING(h, r, ms, call)                                                                    \
    do {                                                                                           \
        int64_t wait_ms = 0;                                                                       \
        (r) = handle_is_mapped(h) ? (call) : HEARTH_E_PENDING;                                     \
        if ((r) == HEARTH_E_PENDING && ((ms) != 0 || !handle_is_mapped(h))) {                      \
            wait_ms = (ms);                                                                        \
            UNLOCKED(r, call);                                                                     \
        }                                                                                          \
    } while (0)

/* Handles that belong to an object and not to a thread: what fork() must know of. */
struct own_handle {
    struct own_handle *next, *prev;
    struct hearth *h; /* NULL: closed, or left behind by fork() */
};
int own_handle_open(struct own_handle *o, struct client *c);
void own_handle_close(struct own_handle *o);

/* Of the handle that client_handle() has just given: no other in this process has or had it. */
uint64_t client_serial(const struct client *c);
/* How many fork()s this process is away from the first. */
extern unsigned fork_generation;

/* Its connection is gone: if it is this thread's, the next call connects again. h must not be used after. */
void handle_lost(struct hearth *h);

int add_handles(PyObject *module);

/* ---- errors: errors.c ---- */

/* Raises what a function of libhearth returned; always NULL. */
PyObject *raise_error(struct hearth *h, int r);
/* ... and with HEARTH_E_ABSENT raising `absent` with the argument `what` (KeyError, IndexError ...). */
PyObject *raise_absent(struct hearth *h, int r, PyObject *absent, PyObject *what);
/* ... and None when there is nothing to raise. */
PyObject *none_or_error(struct hearth *h, int r);
/* Raises what an error reply says. */
PyObject *raise_reply(const char *text);
/* Raises how a task ended that is not done. */
PyObject *raise_task(const struct hearth_result *r);
int errors_init(void);

/* ---- values as bytes: codec.c ---- */

enum { CODEC_SMALL = 256 };
/* The bytes of a Python object; `owner` keeps them, unless they lie in `small` or in the object itself. */
struct encoded {
    struct hearth_bytes bytes;
    PyObject *owner;
    Py_buffer view;
    char small[CODEC_SMALL];
};
/* `raw`: as they are: bytes, str, numbers as text; nothing else. */
int encode_value(struct encoded *e, PyObject *v, bool raw);
/* Equal keys give equal bytes. */
int encode_key(struct encoded *e, PyObject *key, bool raw);
void encoded_clear(struct encoded *e);
/* n objects of a sequence; `pairs`: keys and values in turn. -1: exception. Freed by encoded_many_clear(). */
struct encoded_many {
    struct hearth_bytes *bytes;
    struct encoded *e;
    Py_ssize_t n;
};
int encode_many(struct encoded_many *m, PyObject *const *items, Py_ssize_t n, bool raw, bool pairs);
void encoded_many_clear(struct encoded_many *m);
/* The bytes are not looked at any more once Python code may run. */
PyObject *decode(struct hearth_bytes b, bool raw);
/* n of them, as a list; `pairs`: of tuples of two. */
PyObject *decode_many(const struct hearth_bytes *b, size_t n, bool raw, bool pairs);
int codec_init(void);

/* ---- shared objects by name ---- */

struct object {
    PyObject_HEAD struct client *client;
    PyObject *name_owner; /* bytes */
    struct hearth_bytes name;
    bool raw;
    PyObject *weak; /* weak references */
    PyObject *dict;
};
/* This thread's handle for it. */
struct hearth *object_handle(struct object *o);
extern PyTypeObject object_type;
/* What the types of shared objects have in common. */
#define OBJECT_TYPE(type_name, kind, methods, doc)                                                 \
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_hearth." type_name, .tp_basicsize = sizeof(kind),   \
                                .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,              \
                                .tp_base = &object_type, .tp_doc = (doc), .tp_methods = (methods)
/* A method as PyMethodDef has it that takes more than that says. */
#define METHOD(f) (PyCFunction)(void (*)(void)) f

/* Methods that are one call of libhearth with nothing but the name: None, its flag as a bool, its number (-1: exception). */
PyObject *name_none(PyObject *self, int (*call)(struct hearth *h, struct hearth_bytes name));
PyObject *name_flag(PyObject *self,
                    int (*call)(struct hearth *h, struct hearth_bytes name, int *ret));
int64_t name_count(PyObject *self,
                   int (*call)(struct hearth *h, struct hearth_bytes name, uint64_t *ret));

int add_objects(PyObject *module);
int add_dict(PyObject *module);
int add_list(PyObject *module);

int add_tasks(PyObject *module);
int add_sync(PyObject *module);
int add_queues(PyObject *module);
int add_arrays(PyObject *module);

/* Of acquire(block=True, timeout=None) and its like, whose two are args[at] and args[at + 1] or named: the milliseconds to wait. */
int take_wait(PyObject *const *args, Py_ssize_t n, PyObject *names, Py_ssize_t at, int64_t *ret);

/* Milliseconds of a time limit in seconds: None is -1 (for ever), what is below 0 is 0. */
int timeout_ms(PyObject *timeout, int64_t *ret);
/* Bytes, str (as UTF-8) or a buffer. */
int take_bytes(struct encoded *e, PyObject *v);

/* SPDX-License-Identifier: MIT */
/* Locks, semaphores, events, conditions and barriers. What is done in memory is tried at once, with the interpreter lock kept; only
 * what must wait lets it go. A wait looks for signals by itself (hearth_on_interrupt()), so Ctrl-C ends it and what a
 * handler raises comes through.
 *
 * The owner of a lock is the thread's handle. Besides, an object knows which thread of this process took it last, and how often: that is
 * what multiprocessing's _is_mine() asks. After fork() it knows nothing.
 *
 * A lock keeps for some mapped handles what libhearth has found out about it (hearth_lock), found again by the handle's serial number,
 * as the address of a handle may come again.
 *
 * Fails: as raise_error() says; a time limit that is over is no error but False. */
#include "client/python/py.h"

#include <pthread.h>

int take_wait(PyObject *const *args, Py_ssize_t n, PyObject *names, Py_ssize_t at, int64_t *ret) {
    PyObject *block = n > at ? args[at] : Py_True, *timeout = n > at + 1 ? args[at + 1] : Py_None;
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0) {
            timeout = args[n + i];
        } else if (PyUnicode_CompareWithASCIIString(name, "block") == 0 ||
                   PyUnicode_CompareWithASCIIString(name, "blocking") == 0) {
            block = args[n + i];
        } else {
            PyErr_Format(PyExc_TypeError, "unexpected keyword argument %R", name);
            return -1;
        }
    }
    int yes = block == Py_True ? 1 : PyObject_IsTrue(block);
    *ret = 0;
    return yes < 0 ? -1 : yes ? timeout_ms(timeout, ret) : 0;
}

static PyObject *flag(struct hearth *h, int r) {
    if (r == 0) {
        Py_RETURN_TRUE;
    }
    if (r == HEARTH_E_PENDING) {
        Py_RETURN_FALSE;
    }
    return raise_error(h, r);
}

/* ---- Lock and RLock ---- */

enum { AT_HAND = 8 };
struct lock {
    struct object o;
    bool recursive, check, any; /* look for circles of waiters; anybody may release */
    bool died;                  /* the holder before died holding it */
    unsigned generation;        /* what follows is of this process */
    unsigned long tid;
    long count;
    struct {
        uint64_t serial;
        struct hearth_lock *l;
    } at_hand[AT_HAND];
    unsigned next;
};

static int lock_init(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"client", "name", "recursive", "check", "any", NULL};
    struct lock *l = (struct lock *)self;
    PyObject *client, *name;
    int recursive = 0, check = 1, any = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|ppp", names, &client, &name, &recursive,
                                     &check, &any)) {
        return -1;
    }
    l->recursive = recursive;
    l->check = check;
    l->any = any;
    PyObject *two = PyTuple_Pack(2, client, name);
    int r = two ? object_type.tp_init(self, two, NULL) : -1;
    Py_XDECREF(two);
    return r;
}

static void lock_dealloc(PyObject *self) {
    struct lock *l = (struct lock *)self;
    for (int i = 0; i < AT_HAND; i++) {
        hearth_lock_close(l->at_hand[i].l); /* memory of its own: of no thread's */
        l->at_hand[i].l = NULL;
    }
    object_type.tp_dealloc(self);
}

/* Of this thread's handle, for as long as the interpreter lock is kept: other threads' locks take its place. */
static struct hearth_lock *lock_at_hand(struct lock *l, struct hearth *h) {
    uint64_t serial = client_serial(l->o.client);
    for (int i = 0; i < AT_HAND; i++) {
        if (l->at_hand[i].serial == serial) {
            return l->at_hand[i].l;
        }
    }
    struct hearth_lock *fresh = NULL;
    int r = hearth_lock_open(h, l->o.name, l->recursive, &fresh);
    if (r) {
        raise_error(h, r);
        return NULL;
    }
    unsigned i = l->next++ % AT_HAND;
    hearth_lock_close(l->at_hand[i].l);
    l->at_hand[i].serial = serial;
    l->at_hand[i].l = fresh;
    return fresh;
}

static void lock_is_this_process(struct lock *l) {
    if (l->generation != fork_generation) {
        l->generation = fork_generation;
        l->count = 0;
    }
}

static bool lock_is_mine(struct lock *l) {
    lock_is_this_process(l);
    return l->count > 0 && l->tid == PyThread_get_thread_ident();
}

static void lock_taken(struct lock *l, int died) {
    unsigned long me = PyThread_get_thread_ident();
    lock_is_this_process(l);
    l->count = l->recursive && l->tid == me ? l->count + 1 : 1;
    l->tid = me;
    l->died = died;
}

static PyObject *acquire(struct lock *l, int64_t ms) {
    struct hearth *h = object_handle(&l->o);
    struct hearth_bytes name = l->o.name;
    unsigned flags = l->check ? 0 : HEARTH_NO_CHECK;
    int r = HEARTH_E_PENDING, died = 0;
    if (!h) {
        return NULL;
    }
    bool mapped = handle_is_mapped(h);
    if (mapped) {
        struct hearth_lock *at = lock_at_hand(l, h);
        if (!at) {
            return NULL;
        }
        r = hearth_lock_enter(at, 0, flags, &died);
    }
    if (r == HEARTH_E_PENDING && (ms != 0 || !mapped)) {
        UNLOCKED(r, l->recursive ? hearth_rlock_acquire(h, name, ms, flags, &died)
                                 : hearth_lock_acquire(h, name, ms, flags, &died));
    }
    if (r == HEARTH_E_DEADLOCK && ms == 0) {
        r = HEARTH_E_PENDING;
    }
    if (r == 0) {
        lock_taken(l, died);
    }
    return flag(h, r);
}

static PyObject *lock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n,
                              PyObject *names) {
    int64_t ms = -1;
    if ((n || names) && take_wait(args, n, names, 0, &ms)) {
        return NULL;
    }
    return acquire((struct lock *)self, ms);
}

static PyObject *release(struct lock *l) {
    struct hearth *h = object_handle(&l->o);
    struct hearth_bytes name = l->o.name;
    unsigned flags = l->any ? HEARTH_FORCE : 0;
    int r;
    if (!h) {
        return NULL;
    }
    struct hearth_lock *at = handle_is_mapped(h) ? lock_at_hand(l, h) : NULL;
    if (!at && PyErr_Occurred()) {
        return NULL;
    }
    lock_is_this_process(l);
    long before = l->count;
    l->count = before > 0 ? before - 1 : 0;
    if (at) {
        r = hearth_lock_leave(at, flags);
    } else {
        UNLOCKED(r, l->recursive ? hearth_rlock_release(h, name, flags)
                                 : hearth_lock_release(h, name, flags));
    }
    if (r == HEARTH_E_NOTOWNER) {
        l->count = before;
        PyErr_SetString(l->recursive ? PyExc_AssertionError : PyExc_ValueError,
                        l->recursive ? "attempt to release recursive lock not owned by thread"
                                     : "semaphore or lock released too many times");
        return NULL;
    }
    return none_or_error(h, r);
}

static PyObject *lock_release(PyObject *self, PyObject *unused) {
    (void)unused;
    return release((struct lock *)self);
}

static PyObject *lock_enter(PyObject *self, PyObject *unused) {
    (void)unused;
    return acquire((struct lock *)self, -1);
}

static PyObject *lock_exit(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    (void)args;
    (void)n;
    return release((struct lock *)self);
}

static PyObject *lock_mine(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(lock_is_mine((struct lock *)self));
}

static PyObject *lock_count(PyObject *self, PyObject *unused) {
    (void)unused;
    struct lock *l = (struct lock *)self;
    lock_is_this_process(l);
    return PyLong_FromLong(l->count);
}

static PyObject *lock_locked(PyObject *self, PyObject *unused) {
    (void)unused;
    if (((struct lock *)self)->recursive) {
        PyErr_SetString(PyExc_AttributeError, "an RLock does not say");
        return NULL;
    }
    return name_flag(self, hearth_lock_is_held);
}

static PyObject *lock_died(PyObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(((struct lock *)self)->died);
}

static PyMethodDef lock_methods[] = {
    {"acquire", METHOD(lock_acquire), METH_FASTCALL | METH_KEYWORDS,
     "acquire(block=True, timeout=None): whether it was taken."},
    {"release", lock_release, METH_NOARGS, "Gives it to the next in line."},
    {"locked", lock_locked, METH_NOARGS, "Whether anybody holds it."},
    {"__enter__", lock_enter, METH_NOARGS, NULL},
    {"__exit__", METHOD(lock_exit), METH_FASTCALL, NULL},
    {"_is_mine", lock_mine, METH_NOARGS, "Whether this thread holds it."},
    {"_count", lock_count, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef lock_getset[] = {
    {"owner_died", lock_died, NULL,
     "Whether the holder before died holding it, so that what it guards may be half done.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyTypeObject lock_type = {
    OBJECT_TYPE("Lock", struct lock, lock_methods,
                "Lock(client, name, recursive=False, check=True, any=False)"),
    .tp_init = lock_init,
    .tp_dealloc = lock_dealloc,
    .tp_getset = lock_getset,
};

/* ---- reader-writer locks ---- */

static PyObject *rwlock_take(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names,
                             bool write) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int64_t ms;
    int r, died;
    if (!h || take_wait(args, n, names, 0, &ms)) {
        return NULL;
    }
    if (write) {
        WAITING(h, r, ms, hearth_rwlock_write(h, o->name, wait_ms, 0, &died));
    } else {
        WAITING(h, r, ms, hearth_rwlock_read(h, o->name, wait_ms, 0, &died));
    }
    return flag(h, r);
}

static PyObject *rwlock_read(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    return rwlock_take(self, args, n, names, false);
}

static PyObject *rwlock_write(PyObject *self, PyObject *const *args, Py_ssize_t n,
                              PyObject *names) {
    return rwlock_take(self, args, n, names, true);
}

static PyObject *rwlock_release(PyObject *self, PyObject *unused) {
    (void)unused;
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_rwlock_release(h, o->name, 0));
    return none_or_error(h, r);
}

static PyMethodDef rwlock_methods[] = {
    {"acquire_read", METHOD(rwlock_read), METH_FASTCALL | METH_KEYWORDS,
     "acquire_read(block=True, timeout=None): beside other readers."},
    {"acquire_write", METHOD(rwlock_write), METH_FASTCALL | METH_KEYWORDS,
     "acquire_write(block=True, timeout=None): alone."},
    {"release", rwlock_release, METH_NOARGS, "Gives back what this thread took last."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject rwlock_type = {
    OBJECT_TYPE("RWLock", struct object, rwlock_methods, "RWLock(client, name)"),
};

/* ---- semaphores ---- */

static PyObject *sem_create(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    unsigned long long value;
    int r, bounded, made;
    if (!h || !PyArg_ParseTuple(args, "Kp", &value, &bounded)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_sem_create(h, o->name, value, bounded, &made));
    return r ? raise_error(h, r) : PyBool_FromLong(made);
}

static PyObject *sem_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int64_t ms;
    int r;
    if (!h || take_wait(args, n, names, 0, &ms)) {
        return NULL;
    }
    WAITING(h, r, ms, hearth_sem_acquire(h, o->name, 1, wait_ms));
    return flag(h, r);
}

static PyObject *sem_release(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    unsigned long long units = n > 0 ? PyLong_AsUnsignedLongLong(args[0]) : 1;
    int r;
    if (!h || PyErr_Occurred()) {
        return NULL;
    }
    QUICKLY(h, r, hearth_sem_release(h, o->name, units));
    if (r == HEARTH_E_OVERFLOW) {
        PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
        return NULL;
    }
    return none_or_error(h, r);
}

static PyObject *sem_value(PyObject *self, PyObject *unused) {
    (void)unused;
    int64_t n = name_count(self, hearth_sem_value);
    return n < 0 ? NULL : PyLong_FromLongLong(n);
}

static PyObject *sem_enter(PyObject *self, PyObject *unused) {
    (void)unused;
    return sem_acquire(self, NULL, 0, NULL);
}

static PyObject *sem_exit(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    (void)args;
    (void)n;
    return sem_release(self, NULL, 0);
}

static PyMethodDef sem_methods[] = {
    {"_create", sem_create, METH_VARARGS, NULL},
    {"acquire", METHOD(sem_acquire), METH_FASTCALL | METH_KEYWORDS,
     "acquire(block=True, timeout=None): whether a unit was taken."},
    {"release", METHOD(sem_release), METH_FASTCALL,
     "release(n=1): gives units back, or adds some."},
    {"get_value", sem_value, METH_NOARGS, "How many units there are."},
    {"__enter__", sem_enter, METH_NOARGS, NULL},
    {"__exit__", METHOD(sem_exit), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};

static PyTypeObject sem_type = {
    OBJECT_TYPE("Semaphore", struct object, sem_methods, "Semaphore(client, name)"),
};

/* ---- events ---- */

static PyObject *event_set(PyObject *self, PyObject *unused) {
    (void)unused;
    return name_none(self, hearth_event_set);
}

static PyObject *event_clear(PyObject *self, PyObject *unused) {
    (void)unused;
    return name_none(self, hearth_event_clear);
}

static PyObject *event_is_set(PyObject *self, PyObject *unused) {
    (void)unused;
    return name_flag(self, hearth_event_is_set);
}

static PyObject *event_wait(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    PyObject *timeout = Py_None;
    int64_t ms;
    int r;
    if (!h || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O", names, &timeout) ||
        timeout_ms(timeout, &ms)) {
        return NULL;
    }
    WAITING(h, r, ms, hearth_event_wait(h, o->name, wait_ms));
    return flag(h, r);
}

static PyMethodDef event_methods[] = {
    {"set", event_set, METH_NOARGS, "Sets it, and wakes all that wait."},
    {"clear", event_clear, METH_NOARGS, "Clears it."},
    {"is_set", event_is_set, METH_NOARGS, "Whether it is set."},
    {"wait", METHOD(event_wait), METH_VARARGS | METH_KEYWORDS,
     "wait(timeout=None): until it is set; whether it is."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject event_type = {
    OBJECT_TYPE("Event", struct object, event_methods, "Event(client, name)"),
};

/* ---- conditions ---- */

static PyObject *cond_wait(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    PyObject *lock, *timeout;
    int64_t ms;
    int r, died = 0;
    if (!h || !PyArg_ParseTuple(args, "O!O", &lock_type, &lock, &timeout) ||
        timeout_ms(timeout, &ms)) {
        return NULL;
    }
    struct lock *l = (struct lock *)lock;
    if (!lock_is_mine(l)) {
        PyErr_SetString(PyExc_AssertionError, "must acquire() condition before using wait()");
        return NULL;
    }
    long count = l->count;
    l->count = 0;
    UNLOCKED(r, hearth_cond_wait(h, o->name, l->o.name, ms, &died));
    if (r == 0 || r == HEARTH_E_PENDING || r == -EINTR) { /* it is held again */
        l->count = count;
        l->tid = PyThread_get_thread_ident();
        l->died = died;
    }
    return flag(h, r);
}

static PyObject *cond_notify(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    Py_ssize_t n;
    uint64_t woken = 0;
    int r;
    if (!h || !PyArg_ParseTuple(args, "n", &n)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_cond_notify(h, o->name, n < 0 ? UINT64_MAX : (uint64_t)n, &woken));
    return r ? raise_error(h, r) : PyLong_FromUnsignedLongLong(woken);
}

static PyMethodDef cond_methods[] = {
    {"_wait", cond_wait, METH_VARARGS, "_wait(lock, timeout)"},
    {"_notify", cond_notify, METH_VARARGS, "_notify(n): n < 0: all. How many."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject cond_type = {
    OBJECT_TYPE("Condition", struct object, cond_methods, "Condition(client, name)"),
};

/* ---- barriers ---- */

static PyObject *barrier_create(PyObject *self, PyObject *parties) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    unsigned long n = PyLong_AsUnsignedLong(parties);
    int r, made;
    if (!h || PyErr_Occurred()) {
        return NULL;
    }
    QUICKLY(h, r, hearth_barrier_create(h, o->name, (uint32_t)n, &made));
    return r ? raise_error(h, r) : PyBool_FromLong(made);
}

/* The index, or None: broken, or not in time. */
static PyObject *barrier_wait(PyObject *self, PyObject *timeout) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    uint32_t index = 0;
    int64_t ms;
    int r;
    if (!h || timeout_ms(timeout, &ms)) {
        return NULL;
    }
    UNLOCKED(r, hearth_barrier_wait(h, o->name, ms, &index));
    if (r == HEARTH_E_BROKEN || r == HEARTH_E_PENDING) {
        Py_RETURN_NONE;
    }
    return r ? raise_error(h, r) : PyLong_FromUnsignedLong(index);
}

static PyObject *barrier_reset(PyObject *self, PyObject *unused) {
    (void)unused;
    return name_none(self, hearth_barrier_reset);
}

static PyObject *barrier_abort(PyObject *self, PyObject *unused) {
    (void)unused;
    return name_none(self, hearth_barrier_abort);
}

static PyObject *barrier_info(PyObject *self, PyObject *unused) {
    (void)unused;
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct hearth_barrier_info info;
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_barrier_info(h, o->name, &info));
    return r ? raise_error(h, r)
             : Py_BuildValue("IIO", info.parties, info.waiting, info.broken ? Py_True : Py_False);
}

static PyMethodDef barrier_methods[] = {
    {"_create", barrier_create, METH_O, NULL},
    {"_wait", barrier_wait, METH_O, NULL},
    {"_reset", barrier_reset, METH_NOARGS, NULL},
    {"_abort", barrier_abort, METH_NOARGS, NULL},
    {"_info", barrier_info, METH_NOARGS, "Parties, how many wait, whether it is broken."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject barrier_type = {
    OBJECT_TYPE("Barrier", struct object, barrier_methods, "Barrier(client, name)"),
};

int add_sync(PyObject *module) {
    return PyModule_AddType(module, &lock_type) || PyModule_AddType(module, &rwlock_type) ||
                   PyModule_AddType(module, &sem_type) || PyModule_AddType(module, &event_type) ||
                   PyModule_AddType(module, &cond_type) || PyModule_AddType(module, &barrier_type)
               ? -1
               : 0;
}

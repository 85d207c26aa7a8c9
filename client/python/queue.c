/* SPDX-License-Identifier: MIT */
/* Queues and pipes.
 *
 * Fails: as raise_error() says; queue.Empty, queue.Full; EOFError, BrokenPipeError. */
#include "client/python/py.h"

static PyObject *empty_error, *full_error;

/* ---- Queue ---- */

static PyObject *queue_create(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    unsigned long long maxsize;
    long long lease_ms;
    int r, made;
    if (!h || !PyArg_ParseTuple(args, "KL", &maxsize, &lease_ms)) {
        return NULL;
    }
    struct hearth_queue_options options = {.max_items = maxsize, .lease_ms = lease_ms};
    QUICKLY(h, r, hearth_queue_create(h, o->name, &options, &made));
    return r ? raise_error(h, r) : PyBool_FromLong(made);
}

static PyObject *raise_queue(struct hearth *h, int r, PyObject *pending) {
    if (r == HEARTH_E_PENDING) {
        PyErr_SetNone(pending);
        return NULL;
    }
    return raise_error(h, r);
}

static PyObject *queue_put(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct encoded e;
    int64_t ms;
    int r;
    if (!h) {
        return NULL;
    }
    if (n < 1) {
        PyErr_SetString(PyExc_TypeError, "put() needs an item");
        return NULL;
    }
    if (take_wait(args, n, names, 1, &ms) || encode_value(&e, args[0], o->raw)) {
        return NULL;
    }
    WAITING(h, r, ms, hearth_queue_put(h, o->name, e.bytes, wait_ms));
    encoded_clear(&e);
    return r ? raise_queue(h, r, full_error) : none_or_error(h, r);
}

/* The item, or (item, lease). */
static PyObject *get(struct object *o, int64_t ms, bool lease) {
    struct hearth *h = object_handle(o);
    struct hearth_bytes b;
    uint64_t id = 0;
    int r;
    if (!h) {
        return NULL;
    }
    WAITING(h, r, ms, hearth_queue_get(h, o->name, wait_ms, &b, &id));
    if (r) {
        return raise_queue(h, r, empty_error);
    }
    PyObject *item = decode(b, o->raw);
    return item && lease ? Py_BuildValue("NK", item, (unsigned long long)id) : item;
}

static PyObject *queue_get(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    int64_t ms;
    return take_wait(args, n, names, 0, &ms) ? NULL : get((struct object *)self, ms, false);
}

static PyObject *queue_lease(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    int64_t ms;
    return take_wait(args, n, names, 0, &ms) ? NULL : get((struct object *)self, ms, true);
}

static PyObject *queue_put_many(PyObject *self, PyObject *const *args, Py_ssize_t n,
                                PyObject *names) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct encoded_many m;
    size_t done = 0;
    int64_t ms;
    int r = 0;
    PyObject *items = h && n > 0 ? PySequence_Tuple(args[0]) : NULL;
    if (!items) {
        if (h && !PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "put_many() needs items");
        }
        return NULL;
    }
    if (take_wait(args, n, names, 1, &ms) ||
        encode_many(&m, &PyTuple_GET_ITEM(items, 0), PyTuple_GET_SIZE(items), o->raw, false)) {
        Py_DECREF(items);
        return NULL;
    }
    if (m.n > 0) {
        UNLOCKED(r, hearth_queue_put_many(h, o->name, m.bytes, (size_t)m.n, ms, &done));
    }
    encoded_many_clear(&m);
    Py_DECREF(items);
    return r && r != HEARTH_E_PENDING ? raise_error(h, r) : PyLong_FromSize_t(r ? 0 : done);
}

static PyObject *queue_get_many(PyObject *self, PyObject *const *args, Py_ssize_t n,
                                PyObject *names) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    const struct hearth_bytes *b = NULL;
    const uint64_t *leases = NULL;
    size_t got = 0;
    int64_t ms;
    int r;
    Py_ssize_t max = n > 0 ? PyNumber_AsSsize_t(args[0], PyExc_OverflowError) : 0;
    if (!h || PyErr_Occurred() || take_wait(args, n, names, 1, &ms)) {
        return NULL;
    }
    UNLOCKED(r,
             hearth_queue_get_many(h, o->name, max > 0 ? (size_t)max : 1, ms, &b, &got, &leases));
    return r ? raise_queue(h, r, empty_error) : decode_many(b, got, o->raw, false);
}

static PyObject *queue_done(PyObject *self, PyObject *lease) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    unsigned long long id = PyLong_AsUnsignedLongLong(lease);
    int r;
    if (!h || PyErr_Occurred()) {
        return NULL;
    }
    QUICKLY(h, r, hearth_queue_done(h, o->name, id));
    return none_or_error(h, r);
}

static PyObject *queue_task_done(PyObject *self, PyObject *unused) {
    (void)unused;
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_queue_task_done(h, o->name));
    if (r == HEARTH_E_OVERFLOW || r == HEARTH_E_ABSENT) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    return none_or_error(h, r);
}

static PyObject *queue_join(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int64_t ms;
    int r;
    if (!h || timeout_ms(n > 0 ? args[0] : Py_None, &ms)) {
        return NULL;
    }
    UNLOCKED(r, hearth_queue_join(h, o->name, ms));
    return none_or_error(h, r);
}

static PyObject *queue_finish(PyObject *self, PyObject *unused) {
    (void)unused;
    return name_none(self, hearth_queue_close);
}

/* (items, max_items, unfinished, leased, closed) */
static PyObject *queue_info(PyObject *self, PyObject *unused) {
    (void)unused;
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct hearth_queue_info i = {0};
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_queue_info(h, o->name, &i));
    if (r && r != HEARTH_E_ABSENT) {
        return raise_error(h, r);
    }
    return Py_BuildValue("KKKKO", (unsigned long long)i.items, (unsigned long long)i.max_items,
                         (unsigned long long)i.unfinished, (unsigned long long)i.leased,
                         i.closed ? Py_True : Py_False);
}

static PyMethodDef queue_methods[] = {
    {"_create", queue_create, METH_VARARGS, NULL},
    {"put", METHOD(queue_put), METH_FASTCALL | METH_KEYWORDS,
     "put(item, block=True, timeout=None): queue.Full."},
    {"get", METHOD(queue_get), METH_FASTCALL | METH_KEYWORDS,
     "get(block=True, timeout=None): queue.Empty."},
    {"lease", METHOD(queue_lease), METH_FASTCALL | METH_KEYWORDS,
     "lease(block=True, timeout=None): (item, lease); done(lease) says that it has been dealt "
     "with."},
    {"put_many", METHOD(queue_put_many), METH_FASTCALL | METH_KEYWORDS,
     "put_many(items, block=True, timeout=None): in order, as room comes; how many."},
    {"get_many", METHOD(queue_get_many), METH_FASTCALL | METH_KEYWORDS,
     "get_many(max, block=True, timeout=None): a list; waits for the first only."},
    {"done", queue_done, METH_O, "done(lease): the item has been dealt with."},
    {"task_done", queue_task_done, METH_NOARGS, "One item has been dealt with."},
    {"join", METHOD(queue_join), METH_FASTCALL,
     "join(timeout=None): until all that were put have been dealt with."},
    {"finish", queue_finish, METH_NOARGS,
     "Nothing more can be put, by anybody; what is in it can be got."},
    {"_info", queue_info, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyTypeObject queue_type = {
    OBJECT_TYPE("Queue", struct object, queue_methods, "Queue(client, name, raw=False)"),
};

/* ---- pipes ---- */

static PyObject *pipe_create(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    unsigned long long buffer;
    int r, duplex, made;
    if (!h || !PyArg_ParseTuple(args, "pK", &duplex, &buffer)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_pipe_create(h, o->name, duplex, buffer, &made));
    return r ? raise_error(h, r) : PyBool_FromLong(made);
}

static PyObject *pipe_open(PyObject *self, PyObject *end) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int r, e = (int)PyLong_AsLong(end);
    if (!h || PyErr_Occurred()) {
        return NULL;
    }
    QUICKLY(h, r, hearth_pipe_open(h, o->name, e));
    return none_or_error(h, r);
}

static PyObject *pipe_close(PyObject *self, PyObject *end) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int r, e = (int)PyLong_AsLong(end);
    if (!h || PyErr_Occurred()) {
        return NULL;
    }
    QUICKLY(h, r, hearth_pipe_close(h, o->name, e));
    return r && r != HEARTH_E_NOTOWNER ? raise_error(h, r) : PyBool_FromLong(r == 0);
}

static PyObject *pipe_send(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    PyObject *v, *timeout;
    struct encoded e;
    int64_t ms;
    int r, end;
    if (!h || !PyArg_ParseTuple(args, "iOO", &end, &v, &timeout) || timeout_ms(timeout, &ms) ||
        take_bytes(&e, v)) {
        return NULL;
    }
    UNLOCKED(r, hearth_pipe_send(h, o->name, end, e.bytes, ms));
    encoded_clear(&e);
    if (r == HEARTH_E_CLOSED) {
        PyErr_SetString(PyExc_BrokenPipeError, "the other end of the pipe is closed");
        return NULL;
    }
    return none_or_error(h, r);
}

static PyObject *pipe_recv(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    PyObject *timeout;
    struct hearth_bytes b;
    int64_t ms;
    int r, end;
    if (!h || !PyArg_ParseTuple(args, "iO", &end, &timeout) || timeout_ms(timeout, &ms)) {
        return NULL;
    }
    UNLOCKED(r, hearth_pipe_recv(h, o->name, end, ms, &b));
    if (r == HEARTH_E_CLOSED) {
        PyErr_SetNone(PyExc_EOFError);
        return NULL;
    }
    return r ? raise_error(h, r) : PyBytes_FromStringAndSize(b.data, (Py_ssize_t)b.len);
}

static PyObject *pipe_poll(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    PyObject *timeout;
    int64_t ms;
    int r, end, there = 0;
    if (!h || !PyArg_ParseTuple(args, "iO", &end, &timeout) || timeout_ms(timeout, &ms)) {
        return NULL;
    }
    UNLOCKED(r, hearth_pipe_poll(h, o->name, end, ms, &there));
    return r && r != HEARTH_E_PENDING ? raise_error(h, r) : PyBool_FromLong(r == 0 && there);
}

static PyMethodDef pipe_methods[] = {{"_create", pipe_create, METH_VARARGS, NULL},
                                     {"_open", pipe_open, METH_O, NULL},
                                     {"_close", pipe_close, METH_O, NULL},
                                     {"_send", pipe_send, METH_VARARGS, NULL},
                                     {"_recv", pipe_recv, METH_VARARGS, NULL},
                                     {"_poll", pipe_poll, METH_VARARGS, NULL},
                                     {NULL, NULL, 0, NULL}};

static PyTypeObject pipe_type = {
    OBJECT_TYPE("Pipe", struct object, pipe_methods, "Pipe(client, name)"),
};

int add_queues(PyObject *module) {
    PyObject *queue = PyImport_ImportModule("queue");
    empty_error = queue ? PyObject_GetAttrString(queue, "Empty") : NULL;
    full_error = queue ? PyObject_GetAttrString(queue, "Full") : NULL;
    Py_XDECREF(queue);
    return !empty_error || !full_error || PyModule_AddType(module, &queue_type) ||
                   PyModule_AddType(module, &pipe_type)
               ? -1
               : 0;
}

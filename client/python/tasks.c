/* SPDX-License-Identifier: MIT */
/* Tasks of the daemon's pools: call() waits with the thread's own handle; a Loop submits and calls back, with a handle of its own that
 * one thread (hearth/tasks.py has it) turns; an Imap is an iterator over results, with a handle of its own as well, as it may be
 * carried from thread to thread.
 *
 * Fails: as raise_error() and raise_task() say. */
#include "client/python/py.h"

#include <poll.h>
#include <stdlib.h>

/* ---- a task from Python's arguments ---- */

struct task_args {
    struct hearth_task t;
    struct encoded payload;
    struct encoded_many args, options;
    const char **words;
    size_t *lens;
    PyObject *args_tuple, *options_tuple;
};

static void task_clear(struct task_args *a) {
    encoded_clear(&a->payload);
    encoded_many_clear(&a->args);
    encoded_many_clear(&a->options);
    PyMem_Free(a->words);
    PyMem_Free(a->lens);
    Py_CLEAR(a->args_tuple);
    Py_CLEAR(a->options_tuple);
}

static int take_words(PyObject *from, PyObject **ret_tuple, struct encoded_many *m) {
    *ret_tuple = PySequence_Tuple(from);
    return *ret_tuple ? encode_many(m, &PyTuple_GET_ITEM(*ret_tuple, 0),
                                    PyTuple_GET_SIZE(*ret_tuple), true, false)
                      : -1;
}

/* payload NULL: there is none. */
static int task_take(struct task_args *a, const char *pool, const char *handler, PyObject *payload,
                     PyObject *args, PyObject *timeout, PyObject *options) {
    int64_t ms;
    *a = (struct task_args){.t = {.pool = pool, .handler = handler}};
    if (timeout_ms(timeout, &ms) || (payload && take_bytes(&a->payload, payload)) ||
        take_words(args, &a->args_tuple, &a->args) ||
        take_words(options, &a->options_tuple, &a->options)) {
        task_clear(a);
        return -1;
    }
    size_t n = (size_t)a->args.n, m = (size_t)a->options.n;
    a->words = PyMem_Calloc(n + m + 1, sizeof(*a->words));
    a->lens = PyMem_Calloc(n + m + 1, sizeof(*a->lens));
    if (!a->words || !a->lens) {
        task_clear(a);
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < n + m; i++) {
        struct hearth_bytes b = i < n ? a->args.bytes[i] : a->options.bytes[i - n];
        a->words[i] = b.data;
        a->lens[i] = b.len;
    }
    a->t.payload = a->payload.bytes.data;
    a->t.payload_len = a->payload.bytes.len;
    a->t.args = a->words;
    a->t.arg_lens = a->lens;
    a->t.n_args = n;
    a->t.options = a->words + n; /* of str and numbers, so they end in NUL */
    a->t.n_options = m;
    a->t.timeout_ms = ms < 0 ? 0 : (uint64_t)(ms ? ms : 1);
    return 0;
}

static PyObject *result_object(const struct hearth_result *r) {
    return r->status == HEARTH_DONE ? PyBytes_FromStringAndSize(r->data, (Py_ssize_t)r->len)
                                    : raise_task(r);
}

/* ---- call ---- */

static PyObject *call(PyObject *module, PyObject *args) {
    (void)module;
    struct client *c;
    const char *pool, *handler;
    PyObject *payload, *words, *timeout, *options;
    struct task_args a;
    struct hearth_result result;
    int r;
    if (!PyArg_ParseTuple(args, "O!ssOOOO", &client_type, &c, &pool, &handler, &payload, &words,
                          &timeout, &options)) {
        return NULL;
    }
    struct hearth *h = client_handle(c);
    if (!h || task_take(&a, pool, handler, payload, words, timeout, options)) {
        return NULL;
    }
    UNLOCKED(r, hearth_call(h, &a.t, &result));
    task_clear(&a);
    return r ? raise_error(h, r) : result_object(&result);
}

/* ---- Loop ---- */

struct loop {
    PyObject_HEAD struct own_handle own;
};

static int loop_init(PyObject *self, PyObject *args, PyObject *kwargs) {
    struct loop *l = (struct loop *)self;
    PyObject *c;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", &client_type, &c)) {
        return -1;
    }
    own_handle_close(&l->own);
    return own_handle_open(&l->own, (struct client *)c);
}

static void loop_dealloc(PyObject *self) {
    own_handle_close(&((struct loop *)self)->own);
    Py_TYPE(self)->tp_free(self);
}

static struct hearth *loop_handle(struct loop *l) {
    if (!l->own.h) {
        PyErr_SetString(PyExc_ValueError, "the loop is closed");
    }
    return l->own.h;
}

/* fn(result, error): one of them is None. */
static void call_back(PyObject *fn, const struct hearth_result *r) {
    PyObject *value = result_object(r), *type, *error = NULL, *trace, *done;
    if (!value) {
        PyErr_Fetch(&type, &error, &trace);
        PyErr_NormalizeException(&type, &error, &trace);
        Py_XDECREF(type);
        Py_XDECREF(trace);
    }
    done = PyObject_CallFunctionObjArgs(fn, value ? value : Py_None, error ? error : Py_None, NULL);
    if (!done) {
        PyErr_WriteUnraisable(fn);
    }
    Py_XDECREF(value);
    Py_XDECREF(error);
    Py_XDECREF(done);
}

static void loop_done(struct hearth *h, const struct hearth_result *r, void *arg) {
    (void)h;
    call_back(arg, r);
    Py_DECREF((PyObject *)arg);
}

static PyObject *loop_submit(PyObject *self, PyObject *args) {
    const char *pool, *handler;
    PyObject *payload, *words, *timeout, *options, *fn;
    struct task_args a;
    uint64_t ticket = 0;
    struct hearth *h = loop_handle((struct loop *)self);
    if (!h ||
        !PyArg_ParseTuple(args, "ssOOOOO", &pool, &handler, &payload, &words, &timeout, &options,
                          &fn) ||
        task_take(&a, pool, handler, payload, words, timeout, options)) {
        return NULL;
    }
    Py_INCREF(fn);
    int r = hearth_submit(h, &a.t, loop_done, fn, &ticket);
    task_clear(&a);
    if (r) {
        Py_DECREF(fn);
        return raise_error(h, r);
    }
    return PyLong_FromUnsignedLongLong(ticket);
}

static PyObject *loop_cancel(PyObject *self, PyObject *ticket) {
    struct hearth *h = loop_handle((struct loop *)self);
    unsigned long long n = PyLong_AsUnsignedLongLong(ticket);
    if (!h || PyErr_Occurred()) {
        return NULL;
    }
    int r = hearth_cancel(h, n);
    return r && r != HEARTH_E_NOTASK ? raise_error(h, r) : PyBool_FromLong(r == 0);
}

/* turn(fd): waits until there is something to do, or fd can be read, and does it. How many tasks are outstanding. */
static PyObject *loop_turn(PyObject *self, PyObject *fd) {
    struct hearth *h = loop_handle((struct loop *)self);
    int wake = (int)PyLong_AsLong(fd), r;
    if (!h || PyErr_Occurred()) {
        return NULL;
    }
    r = hearth_dispatch(h); /* sends what has gathered */
    if (r == 0) {
        struct pollfd p[2] = {{.fd = hearth_get_fd(h), .events = (short)hearth_events(h)},
                              {.fd = wake, .events = POLLIN}};
        int n;
        UNLOCKED(n, poll(p, 2, -1));
        if (n < 0 && PyErr_CheckSignals()) {
            return NULL;
        }
        r = n > 0 && p[0].revents ? hearth_dispatch(h) : 0;
    }
    if (r) {
        raise_error(h, r);
        own_handle_close(&((struct loop *)self)->own);
        return NULL;
    }
    return PyLong_FromSize_t(hearth_pending(h));
}

static PyObject *loop_close(PyObject *self, PyObject *unused) {
    (void)unused;
    own_handle_close(&((struct loop *)self)->own);
    Py_RETURN_NONE;
}

static PyMethodDef loop_methods[] = {
    {"submit", loop_submit, METH_VARARGS,
     "submit(pool, handler, payload, args, timeout, options, fn): fn(result, error) will be called "
     "by turn(). A ticket."},
    {"cancel", loop_cancel, METH_O, "cancel(ticket)"},
    {"turn", loop_turn, METH_O, "turn(fd): waits, and calls what is to be called."},
    {"close", loop_close, METH_NOARGS, "Forgets what is outstanding."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject loop_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_hearth.Loop",
    .tp_basicsize = sizeof(struct loop),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Loop(client): submits tasks and calls back.",
    .tp_new = PyType_GenericNew,
    .tp_init = loop_init,
    .tp_dealloc = loop_dealloc,
    .tp_methods = loop_methods,
};

/* ---- Imap ---- */

struct imap {
    PyObject_HEAD struct own_handle own;
    struct task_args args;
    PyObject *strings;         /* keeps pool and handler */
    PyObject *payloads, *kept; /* the iterator; index to what it gave, until the result is there */
    struct hearth_imap *it;
    struct encoded last;
    bool busy;
};

/* hearth_map's next(): called with the interpreter lock let go. */
static int imap_payload(void *arg, size_t index, struct hearth_bytes *ret) {
    struct imap *m = arg;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *v = PyIter_Next(m->payloads), *key = NULL, *bytes = NULL;
    int r = -ECANCELED;
    if (!v) {
        r = PyErr_Occurred() ? -ECANCELED : 0;
    } else if (PyBytes_CheckExact(v)) {
        Py_INCREF(v);
        bytes = v;
    } else {
        bytes = PyUnicode_Check(v) ? PyUnicode_AsUTF8String(v) : PyBytes_FromObject(v);
    }
    key = bytes ? PyLong_FromSize_t(index) : NULL;
    if (key && PyDict_SetItem(m->kept, key, bytes) == 0) {
        *ret = (struct hearth_bytes){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
        r = 1;
    }
    Py_XDECREF(v);
    Py_XDECREF(key);
    Py_XDECREF(bytes);
    PyGILState_Release(state);
    return r;
}

static int imap_init(PyObject *self, PyObject *args, PyObject *kwargs) {
    struct imap *m = (struct imap *)self;
    PyObject *c, *payloads, *words, *timeout, *options, *pool, *handler;
    Py_ssize_t window;
    int ordered;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!UUOOOOpn", &client_type, &c, &pool, &handler, &payloads, &words,
                          &timeout, &options, &ordered, &window)) {
        return -1;
    }
    if (m->kept) {
        PyErr_SetString(PyExc_RuntimeError, "an Imap is made once");
        return -1;
    }
    m->strings = PyTuple_Pack(2, pool, handler);
    m->payloads = PyObject_GetIter(payloads);
    m->kept = PyDict_New();
    const char *pool_text = PyUnicode_AsUTF8(pool), *handler_text = PyUnicode_AsUTF8(handler);
    if (!m->strings || !m->payloads || !m->kept || !pool_text || !handler_text ||
        task_take(&m->args, pool_text, handler_text, NULL, words, timeout, options) ||
        own_handle_open(&m->own, (struct client *)c)) {
        return -1;
    }
    struct hearth_map map = {.task = m->args.t,
                             .next = imap_payload,
                             .arg = m,
                             .ordered = ordered,
                             .window = window > 0 ? (size_t)window : 0};
    int r = hearth_imap_open(m->own.h, &map, &m->it);
    if (r) {
        raise_error(m->own.h, r);
    }
    return r ? -1 : 0;
}

static void imap_end(struct imap *m) {
    if (m->own.h) { /* else fork() took it away */
        hearth_imap_close(m->it);
    }
    m->it = NULL;
    own_handle_close(&m->own);
}

static void imap_dealloc(PyObject *self) {
    struct imap *m = (struct imap *)self;
    PyObject_GC_UnTrack(self);
    imap_end(m);
    task_clear(&m->args);
    Py_CLEAR(m->strings);
    Py_CLEAR(m->payloads);
    Py_CLEAR(m->kept);
    Py_TYPE(self)->tp_free(self);
}

static int imap_traverse(PyObject *self, visitproc visit, void *arg) {
    struct imap *m = (struct imap *)self;
    Py_VISIT(m->payloads);
    Py_VISIT(m->kept);
    return 0;
}

static PyObject *imap_next(PyObject *self) {
    struct imap *m = (struct imap *)self;
    struct hearth_result result;
    int r;
    if (m->busy) {
        PyErr_SetString(PyExc_ValueError, "the iterator is in use by another thread");
        return NULL;
    }
    if (!m->it || !m->own.h) {
        return NULL;
    }
    m->busy = true;
    UNLOCKED(r, hearth_imap_next(m->it, &result));
    m->busy = false;
    if (r == HEARTH_E_ABSENT) {
        imap_end(m);
        return NULL;
    }
    if (r) {
        if (!PyErr_Occurred()) { /* the iterator has raised */
            raise_error(m->own.h, r);
        }
        imap_end(m);
        return NULL;
    }
    PyObject *value = result_object(&result), *key = PyLong_FromSize_t(result.index);
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    if (!key || PyDict_DelItem(m->kept, key)) {
        PyErr_Clear();
    }
    PyErr_Restore(type, error, trace);
    Py_XDECREF(key);
    return value;
}

static PyObject *imap_close(PyObject *self, PyObject *unused) {
    (void)unused;
    imap_end((struct imap *)self);
    Py_RETURN_NONE;
}

static PyMethodDef imap_methods[] = {
    {"close", imap_close, METH_NOARGS, "Cancels what has not ended."}, {NULL, NULL, 0, NULL}};

static PyTypeObject imap_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_hearth.Imap",
    .tp_basicsize = sizeof(struct imap),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc =
        "Imap(client, pool, handler, payloads, args, timeout, options, ordered, window): results.",
    .tp_new = PyType_GenericNew,
    .tp_init = imap_init,
    .tp_dealloc = imap_dealloc,
    .tp_traverse = imap_traverse,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = imap_next,
    .tp_methods = imap_methods,
};

/* ---- Keeper: what lives as long as the process ---- */

struct keeper {
    PyObject_HEAD struct own_handle own;
    char prefix[HEARTH_PREFIX_MAX + 1];
};

static int keeper_init(PyObject *self, PyObject *args, PyObject *kwargs) {
    struct keeper *k = (struct keeper *)self;
    PyObject *c;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", &client_type, &c)) {
        return -1;
    }
    own_handle_close(&k->own);
    if (own_handle_open(&k->own, (struct client *)c)) {
        return -1;
    }
    int r;
    UNLOCKED(r, hearth_manager_open(k->own.h, k->prefix));
    if (r) {
        raise_error(k->own.h, r);
    }
    return r ? -1 : 0;
}

static void keeper_dealloc(PyObject *self) {
    own_handle_close(&((struct keeper *)self)->own);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *keeper_close(PyObject *self, PyObject *unused) {
    struct keeper *k = (struct keeper *)self;
    (void)unused;
    int r = 0;
    if (k->own.h) {
        UNLOCKED(r, hearth_manager_close(k->own.h, k->prefix));
        if (r) {
            raise_error(k->own.h, r);
        }
        own_handle_close(&k->own);
    }
    if (r) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *keeper_prefix(PyObject *self, void *unused) {
    (void)unused;
    return PyUnicode_FromString(((struct keeper *)self)->prefix);
}

static PyObject *keeper_alive(PyObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(((struct keeper *)self)->own.h != NULL);
}

static PyMethodDef keeper_methods[] = {
    {"close", keeper_close, METH_NOARGS, "Ends the manager, and all that is under its prefix."},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef keeper_getset[] = {
    {"prefix", keeper_prefix, NULL, "What the names of all that belongs to it begin with.", NULL},
    {"alive", keeper_alive, NULL, "False when closed, and in a child of fork().", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyTypeObject keeper_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_hearth.Keeper",
    .tp_basicsize = sizeof(struct keeper),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc =
        "Keeper(client): a manager of the daemon's, which ends with this object and this process.",
    .tp_new = PyType_GenericNew,
    .tp_init = keeper_init,
    .tp_dealloc = keeper_dealloc,
    .tp_methods = keeper_methods,
    .tp_getset = keeper_getset,
};

static PyMethodDef functions[] = {
    {"call", call, METH_VARARGS,
     "call(client, pool, handler, payload, args, timeout, options): runs a task; its result."},
    {NULL, NULL, 0, NULL}};

int add_tasks(PyObject *module) {
    return PyModule_AddFunctions(module, functions) || PyModule_AddType(module, &loop_type) ||
                   PyModule_AddType(module, &imap_type) || PyModule_AddType(module, &keeper_type)
               ? -1
               : 0;
}

/* SPDX-License-Identifier: MIT */
/* Handles: one per thread and daemon, made at first use, closed when the thread ends.
 *
 * A handle of libhearth is used by one thread at a time, a mapped one by the thread that attached and as long as that lives: its slot in
 * the segment is a robust mutex which that thread holds. So each thread has a table of handles, one for each Client, found
 * through a thread-local pointer and ended by the destructor of a pthread key, in the thread itself.
 *
 * fork(): the child inherits descriptors and mappings which are the parent's. All tables, and all handles that belong to an object
 * (own_handle), are on two lists; the child walks them and abandons every handle, says nothing and starts with none. Whatever of the
 * parent's another thread was doing then does not matter, as no memory of its handle is looked at.
 *
 * A lost connection: the handle is closed at once and the next call connects again. What was lost with it (held locks, managers) is
 * told by the exception that the call before has raised.
 *
 * Fails: as hearth_connect(); too many daemons in one process. */
#include "client/python/py.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { CLIENTS_MAX = 64 };

struct thread {
    struct thread *next, *prev;
    struct hearth *h[CLIENTS_MAX];
    uint64_t serial[CLIENTS_MAX];
};

unsigned fork_generation;

static __thread struct thread *mine;
static pthread_key_t key;
static pthread_mutex_t lists_lock = PTHREAD_MUTEX_INITIALIZER;
static struct thread *threads;
static struct own_handle *own_handles;
static unsigned n_clients;
static uint64_t serials;

#define LIST_ADD(list, x)                                                                          \
    do {                                                                                           \
        (x)->prev = NULL;                                                                          \
        (x)->next = (list);                                                                        \
        if (list) {                                                                                \
            (list)->prev = (x);                                                                    \
        }                                                                                          \
        (list) = (x);                                                                              \
    } while (0)
#define LIST_REMOVE(list, x)                                                                       \
    do {                                                                                           \
        *((x)->prev ? &(x)->prev->next : &(list)) = (x)->next;                                     \
        if ((x)->next) {                                                                           \
            (x)->next->prev = (x)->prev;                                                           \
        }                                                                                          \
    } while (0)

/* ---- the threads' tables ---- */

static void thread_ends(void *arg) {
    struct thread *t = arg;
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        hearth_close(t->h[i]);
    }
    pthread_mutex_lock(&lists_lock);
    LIST_REMOVE(threads, t);
    pthread_mutex_unlock(&lists_lock);
    mine = NULL;
    free(t);
}

static struct thread *thread_begins(void) {
    struct thread *t = calloc(1, sizeof(*t));
    if (!t || pthread_setspecific(key, t)) {
        free(t);
        return NULL;
    }
    pthread_mutex_lock(&lists_lock);
    LIST_ADD(threads, t);
    pthread_mutex_unlock(&lists_lock);
    mine = t;
    return t;
}

static void before_fork(void) {
    pthread_mutex_lock(&lists_lock);
}

static void after_fork_in_parent(void) {
    pthread_mutex_unlock(&lists_lock);
}

static void after_fork_in_child(void) {
    for (struct thread *t = threads; t; t = t->next) {
        for (unsigned i = 0; i < CLIENTS_MAX; i++) {
            hearth_abandon(t->h[i]);
            t->h[i] = NULL;
        }
    }
    fork_generation++;
    threads = mine; /* the others' have no thread any more */
    if (mine) {
        mine->next = mine->prev = NULL;
    }
    for (struct own_handle *o = own_handles; o; o = o->next) {
        hearth_abandon(o->h);
        o->h = NULL;
    }
    own_handles = NULL;
    pthread_mutex_unlock(&lists_lock);
}

/* ---- connecting ---- */

static const char *path_of(struct client *c) {
    return c->path == Py_None ? NULL : PyUnicode_AsUTF8(c->path);
}

/* A signal handler has run while this thread waits: Python's shall too, and may raise. */
static int interrupted(struct hearth *h, void *arg) {
    (void)h;
    (void)arg;
    PyGILState_STATE state = PyGILState_Ensure();
    int r = PyErr_CheckSignals();
    PyGILState_Release(state);
    return r;
}

static struct hearth *raise_connect(struct client *c, int r) {
    const char *path = path_of(c);
    if (!path) {
        PyErr_Clear();
        path = getenv("HEARTH_SOCKET");
    }
    if (r < 0) {
        errno = -r;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, path && *path ? path : HEARTH_DEFAULT_SOCKET);
        return NULL;
    }
    raise_error(NULL, r);
    return NULL;
}

/* With the lists locked, so that no fork() comes between the descriptors and the place where its child finds them. */
static int connect_into(const char *path, bool map, struct hearth **slot) {
    struct hearth *h = NULL;
    pthread_mutex_lock(&lists_lock);
    int r = *slot ? 0 : hearth_connect(path, &h);
    if (h && map) {
        /* Refused: not for this user, or too many have. Everything goes over the connection then. */
        r = hearth_attach(h, 0);
        r = r == HEARTH_E_REFUSED ? 0 : r;
    }
    if (h && r) {
        hearth_close(h);
    } else if (h) {
        *slot = h;
    }
    pthread_mutex_unlock(&lists_lock);
    return r;
}

static struct hearth *open_handle(struct client *c, bool map, struct hearth **slot) {
    const char *path = path_of(c);
    int r;
    if (!path && c->path != Py_None) {
        return NULL;
    }
    UNLOCKED(r, connect_into(path, map, slot));
    return r ? raise_connect(c, r) : *slot;
}

struct hearth *client_handle(struct client *c) {
    struct thread *t = mine;
    if (t && t->h[c->id]) {
        return t->h[c->id];
    }
    if (!c->path) {
        PyErr_SetString(PyExc_RuntimeError, "Client.__init__() was not called");
        return NULL;
    }
    t = t ? t : thread_begins();
    if (!t) {
        PyErr_NoMemory();
        return NULL;
    }
    if (!open_handle(c, c->map, &t->h[c->id])) {
        return NULL;
    }
    hearth_on_interrupt(t->h[c->id], interrupted, NULL);
    t->serial[c->id] = ++serials; /* with the interpreter lock */
    return t->h[c->id];
}

uint64_t client_serial(const struct client *c) {
    return mine->serial[c->id];
}

void handle_lost(struct hearth *h) {
    for (unsigned i = 0; mine && i < CLIENTS_MAX; i++) {
        if (mine->h[i] == h) {
            mine->h[i] = NULL;
            hearth_close(h);
        }
    }
}

int own_handle_open(struct own_handle *o, struct client *c) {
    o->h = NULL;
    pthread_mutex_lock(&lists_lock);
    LIST_ADD(own_handles, o);
    pthread_mutex_unlock(&lists_lock);
    if (open_handle(c, false, &o->h)) {
        return 0;
    }
    pthread_mutex_lock(&lists_lock);
    LIST_REMOVE(own_handles, o);
    pthread_mutex_unlock(&lists_lock);
    return -1;
}

void own_handle_close(struct own_handle *o) {
    if (o->h) {
        pthread_mutex_lock(&lists_lock);
        LIST_REMOVE(own_handles, o);
        pthread_mutex_unlock(&lists_lock);
        hearth_close(o->h);
        o->h = NULL;
    }
}

/* ---- Client ---- */

static int client_init(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"path", "map", NULL};
    struct client *c = (struct client *)self;
    PyObject *path = Py_None;
    int map = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Op", names, &path, &map)) {
        return -1;
    }
    if (path != Py_None && !PyUnicode_Check(path)) {
        PyErr_SetString(PyExc_TypeError, "path must be str or None");
        return -1;
    }
    if (c->path) {
        PyErr_SetString(PyExc_RuntimeError, "a Client is made once");
        return -1;
    }
    if (n_clients == CLIENTS_MAX) {
        PyErr_SetString(PyExc_RuntimeError, "too many daemons in one process");
        return -1;
    }
    c->id = n_clients++;
    c->map = map;
    Py_INCREF(path);
    c->path = path;
    return 0;
}

static void client_dealloc(PyObject *self) {
    struct client *c = (struct client *)self;
    if (c->path && mine && mine->h[c->id]) {
        hearth_close(mine->h[c->id]); /* those of other threads go with them */
        mine->h[c->id] = NULL;
    }
    Py_CLEAR(c->path);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *client_attached(PyObject *self, PyObject *unused) {
    (void)unused;
    struct hearth *h = client_handle((struct client *)self);
    return h ? PyBool_FromLong(hearth_attached(h) == 2) : NULL;
}

static PyObject *client_close(PyObject *self, PyObject *unused) {
    struct client *c = (struct client *)self;
    (void)unused;
    if (c->path && mine && mine->h[c->id]) {
        struct hearth *h = mine->h[c->id];
        mine->h[c->id] = NULL;
        hearth_close(h);
    }
    Py_RETURN_NONE;
}

static PyObject *reply_object(const struct hearth_reply *r) {
    size_t len, n = hearth_reply_count(r);
    const char *text = hearth_reply_text(r, &len);
    enum hearth_reply_type type = hearth_reply_type(r);
    switch (type) {
    case HEARTH_REPLY_NULL:
        Py_RETURN_NONE;
    case HEARTH_REPLY_TEXT:
        return PyBytes_FromStringAndSize(text, (Py_ssize_t)len);
    case HEARTH_REPLY_ERROR:
        return raise_reply(text);
    case HEARTH_REPLY_INT:
        return PyLong_FromLongLong(hearth_reply_int(r));
    case HEARTH_REPLY_DOUBLE:
        return PyFloat_FromDouble(hearth_reply_double(r));
    case HEARTH_REPLY_BOOL:
        return PyBool_FromLong(hearth_reply_int(r) != 0);
    default:
        break;
    }
    PyObject *all = type == HEARTH_REPLY_MAP ? PyDict_New() : PyList_New(0);
    const struct hearth_reply *e = hearth_reply_first(r);
    for (size_t i = 0; all && i < n; i++) {
        int bad;
        PyObject *a = reply_object(e), *b = NULL;
        e = hearth_reply_next(e);
        if (type == HEARTH_REPLY_MAP) {
            b = a ? reply_object(e) : NULL;
            e = hearth_reply_next(e);
            bad = !b || PyDict_SetItem(all, a, b);
        } else {
            bad = !a || PyList_Append(all, a);
        }
        Py_XDECREF(a);
        Py_XDECREF(b);
        if (bad) {
            Py_CLEAR(all);
        }
    }
    return all;
}

static PyObject *client_command(PyObject *self, PyObject *args) {
    struct encoded_many words;
    struct hearth *h = client_handle((struct client *)self);
    const struct hearth_reply *reply = NULL;
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    if (!h) {
        return NULL;
    }
    if (n == 0) {
        PyErr_SetString(PyExc_TypeError, "a command has at least one word");
        return NULL;
    }
    if (encode_many(&words, &PyTuple_GET_ITEM(args, 0), n, true, false)) {
        return NULL;
    }
    const char **argv = calloc((size_t)n, sizeof(*argv));
    size_t *lens = calloc((size_t)n, sizeof(*lens));
    PyObject *result = NULL;
    int r = -ENOMEM;
    for (Py_ssize_t i = 0; argv && lens && i < n; i++) {
        argv[i] = words.bytes[i].data;
        lens[i] = words.bytes[i].len;
    }
    if (argv && lens) {
        UNLOCKED(r, hearth_command(h, (size_t)n, argv, lens, &reply));
    }
    free(argv);
    free(lens);
    encoded_many_clear(&words);
    if (r) {
        return raise_error(h, r);
    }
    int had = PyGC_Disable(); /* nothing may use the handle until the reply is read */
    result = reply_object(reply);
    if (had) {
        PyGC_Enable();
    }
    return result;
}

static PyObject *client_reduce(PyObject *self, PyObject *unused) {
    (void)unused;
    struct client *c = (struct client *)self;
    PyObject *module = PyImport_ImportModule("hearth");
    PyObject *connect = module ? PyObject_GetAttrString(module, "connect") : NULL;
    Py_XDECREF(module);
    return connect ? Py_BuildValue("N(OO)", connect, c->path, c->map ? Py_True : Py_False) : NULL;
}

static PyObject *client_get_path(PyObject *self, void *unused) {
    (void)unused;
    PyObject *path = ((struct client *)self)->path;
    path = path ? path : Py_None;
    Py_INCREF(path);
    return path;
}

static PyMethodDef client_methods[] = {
    {"command", client_command, METH_VARARGS,
     "command(*words): sends any command and returns its reply; an error reply raises."},
    {"close", client_close, METH_NOARGS,
     "Closes this thread's connection; the next call opens one."},
    {"attached", client_attached, METH_NOARGS,
     "Whether this thread works in the daemon's memory, rather than over its socket."},
    {"__reduce__", client_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef client_getset[] = {
    {"path", client_get_path, NULL, "The socket; None: $HEARTH_SOCKET, or the usual place.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

PyTypeObject client_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_hearth.Client",
    .tp_basicsize = sizeof(struct client),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "Client(path=None, map=True): a daemon. Every thread that uses it has a connection "
              "of its own, made at first use.",
    .tp_new = PyType_GenericNew,
    .tp_init = client_init,
    .tp_dealloc = client_dealloc,
    .tp_methods = client_methods,
    .tp_getset = client_getset,
};

int add_handles(PyObject *module) {
    if (pthread_key_create(&key, thread_ends) ||
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child)) {
        PyErr_SetString(PyExc_ImportError, "no thread-specific memory");
        return -1;
    }
    return PyModule_AddType(module, &client_type);
}

/* SPDX-License-Identifier: MIT */
/* What shared objects have in common in Python: a daemon, a name, and how what is in them is made bytes; and values.
 *
 * Fails: as raise_error() says. */
#include "client/python/py.h"

#include <stddef.h>
#include <structmember.h>

/* ---- Object ---- */

static int object_init(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"client", "name", "raw", NULL};
    struct object *o = (struct object *)self;
    PyObject *client, *name;
    int raw = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|p", names, &client_type, &client, &name,
                                     &raw)) {
        return -1;
    }
    PyObject *bytes = PyUnicode_Check(name) ? PyUnicode_AsUTF8String(name)
                      : PyBytes_Check(name) ? PyBytes_FromObject(name)
                                            : NULL;
    if (!bytes) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a name is str or bytes");
        }
        return -1;
    }
    Py_INCREF(client);
    Py_XSETREF(o->client, (struct client *)client);
    Py_XSETREF(o->name_owner, bytes);
    o->name = (struct hearth_bytes){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
    o->raw = raw;
    return 0;
}

static void object_dealloc(PyObject *self) {
    struct object *o = (struct object *)self;
    PyObject_GC_UnTrack(self);
    if (o->weak) {
        PyObject_ClearWeakRefs(self);
    }
    Py_CLEAR(o->client);
    Py_CLEAR(o->name_owner);
    Py_CLEAR(o->dict);
    Py_TYPE(self)->tp_free(self);
}

static int object_traverse(PyObject *self, visitproc visit, void *arg) {
    struct object *o = (struct object *)self;
    Py_VISIT(o->client);
    Py_VISIT(o->dict);
    return 0;
}

static int object_clear(PyObject *self) {
    Py_CLEAR(((struct object *)self)->dict);
    return 0;
}

static PyObject *get_name(PyObject *self, void *unused) {
    (void)unused;
    struct object *o = (struct object *)self;
    return PyUnicode_DecodeUTF8(o->name.data, (Py_ssize_t)o->name.len, "surrogateescape");
}

struct hearth *object_handle(struct object *o) {
    if (!o->client) {
        PyErr_SetString(PyExc_RuntimeError, "__init__() was not called");
        return NULL;
    }
    return client_handle(o->client);
}

PyObject *name_none(PyObject *self, int (*call)(struct hearth *h, struct hearth_bytes name)) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, call(h, o->name));
    return none_or_error(h, r);
}

PyObject *name_flag(PyObject *self,
                    int (*call)(struct hearth *h, struct hearth_bytes name, int *ret)) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int r, flag = 0;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, call(h, o->name, &flag));
    return r ? raise_error(h, r) : PyBool_FromLong(flag);
}

int64_t name_count(PyObject *self,
                   int (*call)(struct hearth *h, struct hearth_bytes name, uint64_t *ret)) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    uint64_t n = 0;
    int r;
    if (!h) {
        return -1;
    }
    QUICKLY(h, r, call(h, o->name, &n));
    if (r) {
        raise_error(h, r);
        return -1;
    }
    return (int64_t)n;
}

static PyObject *object_delete(PyObject *self, PyObject *unused) {
    (void)unused;
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    uint64_t n = 0;
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_object_delete(h, &o->name, 1, &n));
    return r ? raise_error(h, r) : PyBool_FromLong(n != 0);
}

static PyObject *object_exists(PyObject *self, PyObject *unused) {
    (void)unused;
    return name_flag(self, hearth_object_exists);
}

static PyObject *object_expire(PyObject *self, PyObject *seconds) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int64_t ms;
    int r;
    if (!h || timeout_ms(seconds, &ms)) {
        return NULL;
    }
    if (ms < 0) {
        QUICKLY(h, r, hearth_object_persist(h, o->name));
    } else {
        QUICKLY(h, r, hearth_object_expire(h, o->name, ms));
    }
    if (r) {
        return raise_error(h, r);
    }
    Py_RETURN_NONE;
}

static PyMethodDef object_methods[] = {
    {"delete", object_delete, METH_NOARGS,
     "Removes the object, for everybody. Whether it was there."},
    {"exists", object_exists, METH_NOARGS, "Whether there is anything of this name."},
    {"expire", object_expire, METH_O, "Lets it go in so many seconds (None: never)."},
    {NULL, NULL, 0, NULL}};

static PyMemberDef object_members[] = {
    {"client", T_OBJECT_EX, offsetof(struct object, client), READONLY, "The daemon it lives in."},
    {"raw", T_BOOL, offsetof(struct object, raw), READONLY,
     "Whether everything in it is plain bytes."},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef object_getset[] = {
    {"name", get_name, NULL, "The name by which every program knows it.", NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}};

PyTypeObject object_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_hearth.Object",
    .tp_basicsize = sizeof(struct object),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Object(client, name, raw=False): a shared object.",
    .tp_new = PyType_GenericNew,
    .tp_init = object_init,
    .tp_dealloc = object_dealloc,
    .tp_traverse = object_traverse,
    .tp_clear = object_clear,
    .tp_methods = object_methods,
    .tp_members = object_members,
    .tp_getset = object_getset,
    .tp_weaklistoffset = offsetof(struct object, weak),
    .tp_dictoffset = offsetof(struct object, dict),
};

/* ---- Value: one thing under a name ---- */

static PyObject *value_get(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct hearth_bytes b;
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_value_get(h, o->name, &b));
    if (r == HEARTH_E_ABSENT) {
        PyObject *none = n > 0 ? args[0] : Py_None;
        Py_INCREF(none);
        return none;
    }
    return r ? raise_error(h, r) : decode(b, o->raw);
}

static PyObject *value_set(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"value", "when", "ttl", NULL};
    struct object *o = (struct object *)self;
    PyObject *v, *ttl = Py_None;
    unsigned when = HEARTH_ALWAYS;
    struct encoded e;
    int64_t ms;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|IO", names, &v, &when, &ttl) ||
        timeout_ms(ttl, &ms) || encode_value(&e, v, o->raw)) {
        return NULL;
    }
    struct hearth *h = object_handle(o);
    int r = 0;
    if (h) {
        QUICKLY(h, r, hearth_value_set(h, o->name, e.bytes, when, ms < 0 ? 0 : (uint64_t)ms));
    }
    encoded_clear(&e);
    if (!h || (r && r != HEARTH_E_ABSENT && r != HEARTH_E_EXISTS)) {
        return h ? raise_error(h, r) : NULL;
    }
    return PyBool_FromLong(r == 0);
}

static PyObject *value_add(PyObject *self, PyObject *by) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    long long n = PyLong_AsLongLong(by);
    int64_t sum = 0;
    int r;
    if (!h || (n == -1 && PyErr_Occurred())) {
        return NULL;
    }
    QUICKLY(h, r, hearth_value_add(h, o->name, n, &sum));
    return r ? raise_error(h, r) : PyLong_FromLongLong(sum);
}

static PyMethodDef value_methods[] = {
    {"get", METHOD(value_get), METH_FASTCALL, "get(default=None): what is there."},
    {"set", METHOD(value_set), METH_VARARGS | METH_KEYWORDS,
     "set(value, when=ALWAYS, ttl=None): whether it was set."},
    {"add", value_add, METH_O, "Adds to an integer, atomically; the sum."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject value_type = {
    OBJECT_TYPE("Value", struct object, value_methods,
                "Value(client, name, raw=False): one shared value; Redis's string."),
};

/* exchange(buffer, index, expected, new): compare and set of a byte that other processes have as well. */
static PyObject *exchange(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer view;
    Py_ssize_t index;
    unsigned char expected, fresh;
    if (!PyArg_ParseTuple(args, "w*nbb", &view, &index, &expected, &fresh)) {
        return NULL;
    }
    bool good = index >= 0 && index < view.len, done = false;
    if (good) {
        done = __atomic_compare_exchange_n((unsigned char *)view.buf + index, &expected, fresh,
                                           false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    } else {
        PyErr_SetString(PyExc_IndexError, "beyond the buffer");
    }
    PyBuffer_Release(&view);
    return good ? PyBool_FromLong(done) : NULL;
}

static PyMethodDef functions[] = {
    {"exchange", exchange, METH_VARARGS,
     "exchange(buffer, index, expected, new): sets a byte of shared memory if it is as expected."},
    {NULL, NULL, 0, NULL}};

int add_objects(PyObject *module) {
    return PyModule_AddFunctions(module, functions) || PyModule_AddType(module, &object_type) ||
                   PyModule_AddType(module, &value_type) ||
                   PyModule_AddIntConstant(module, "ALWAYS", HEARTH_ALWAYS) ||
                   PyModule_AddIntConstant(module, "IF_ABSENT", HEARTH_IF_ABSENT) ||
                   PyModule_AddIntConstant(module, "IF_PRESENT", HEARTH_IF_PRESENT)
               ? -1
               : 0;
}

/* SPDX-License-Identifier: MIT */
/* Typed arrays, one atomic operation per call; and raw blocks, which are descriptors to be mapped.
 *
 * Fails: as raise_error() says; IndexError; OverflowError for numbers that the type has not. */
#include "client/python/py.h"

struct array {
    struct object o;
    enum hearth_array_type type;
    Py_ssize_t n;
};

static const struct {
    char code;
    enum hearth_array_type type;
    int size;
} types[] = {
    {'b', HEARTH_INT8, 1},   {'B', HEARTH_UINT8, 1},  {'h', HEARTH_INT16, 2},
    {'H', HEARTH_UINT16, 2}, {'i', HEARTH_INT32, 4},  {'I', HEARTH_UINT32, 4},
    {'q', HEARTH_INT64, 8},  {'Q', HEARTH_UINT64, 8}, {'l', HEARTH_INT64, 8},
    {'L', HEARTH_UINT64, 8}, {'f', HEARTH_FLOAT, 4},  {'d', HEARTH_DOUBLE, 8},
    {'c', HEARTH_CHAR, 1},
};

static int size_of(enum hearth_array_type type) {
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        if (types[i].type == type) {
            return types[i].size;
        }
    }
    return 1;
}

/* _open(typecode, n): n 0: whatever is there. */
static PyObject *array_open(PyObject *self, PyObject *args) {
    struct array *a = (struct array *)self;
    struct hearth *h = object_handle(&a->o);
    Py_ssize_t n;
    int code, r, made = 0;
    uint64_t there = 0;
    if (!h || !PyArg_ParseTuple(args, "Cn", &code, &n)) {
        return NULL;
    }
    a->type = 0;
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        a->type = types[i].code == code ? types[i].type : a->type;
    }
    if (a->type == 0 || n < 0) {
        PyErr_SetString(PyExc_ValueError, "no such type, or length");
        return NULL;
    }
    if (n > 0) {
        QUICKLY(h, r, hearth_array_create(h, a->o.name, a->type, (uint64_t)n, &made));
        a->n = n;
    } else {
        enum hearth_array_type type = 0;
        QUICKLY(h, r, hearth_array_info(h, a->o.name, &type, &there));
        r = r ? r : type != a->type ? HEARTH_E_TYPE : 0;
        a->n = (Py_ssize_t)there;
    }
    return r ? raise_error(h, r) : PyBool_FromLong(made);
}

static int take_number(struct array *a, PyObject *v, union hearth_number *ret) {
    switch (a->type) {
    case HEARTH_FLOAT:
    case HEARTH_DOUBLE:
        ret->d = PyFloat_AsDouble(v);
        break;
    case HEARTH_CHAR:
        if (PyBytes_Check(v) && PyBytes_GET_SIZE(v) == 1) {
            ret->u = (unsigned char)*PyBytes_AS_STRING(v);
        } else {
            ret->u = PyLong_AsUnsignedLongLong(v);
        }
        break;
    case HEARTH_UINT8:
    case HEARTH_UINT16:
    case HEARTH_UINT32:
    case HEARTH_UINT64:
        ret->u = PyLong_AsUnsignedLongLong(v);
        break;
    default:
        ret->i = PyLong_AsLongLong(v);
        break;
    }
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *give_number(struct array *a, union hearth_number v) {
    char byte = (char)v.u;
    switch (a->type) {
    case HEARTH_FLOAT:
    case HEARTH_DOUBLE:
        return PyFloat_FromDouble(v.d);
    case HEARTH_CHAR:
        return PyBytes_FromStringAndSize(&byte, 1);
    case HEARTH_UINT8:
    case HEARTH_UINT16:
    case HEARTH_UINT32:
    case HEARTH_UINT64:
        return PyLong_FromUnsignedLongLong(v.u);
    default:
        return PyLong_FromLongLong(v.i);
    }
}

static int take_index(struct array *a, Py_ssize_t i, uint64_t *ret) {
    i = i < 0 ? i + a->n : i;
    if (i < 0 || i >= a->n) {
        PyErr_SetString(PyExc_IndexError, "array index out of range");
        return -1;
    }
    *ret = (uint64_t)i;
    return 0;
}

static PyObject *raise_array(struct hearth *h, int r) {
    if (r == HEARTH_E_NUMBER) {
        PyErr_SetString(PyExc_OverflowError, "the array's type has no such number");
        return NULL;
    }
    return raise_error(h, r);
}

static PyObject *array_get(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    struct array *a = (struct array *)self;
    struct hearth *h = object_handle(&a->o);
    union hearth_number v;
    uint64_t i = 0;
    int r;
    Py_ssize_t index = n > 0 ? PyNumber_AsSsize_t(args[0], PyExc_IndexError) : 0;
    if (!h || PyErr_Occurred() || take_index(a, index, &i)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_array_get(h, a->o.name, a->type, i, &v));
    return r ? raise_array(h, r) : give_number(a, v);
}

static PyObject *array_set(PyObject *self, PyObject *args) {
    struct array *a = (struct array *)self;
    struct hearth *h = object_handle(&a->o);
    union hearth_number v = {0};
    Py_ssize_t index;
    PyObject *value;
    uint64_t i;
    int r;
    if (!h || !PyArg_ParseTuple(args, "nO", &index, &value) || take_index(a, index, &i) ||
        take_number(a, value, &v)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_array_set(h, a->o.name, a->type, i, v));
    if (r) {
        return raise_array(h, r);
    }
    Py_RETURN_NONE;
}

static PyObject *array_add(PyObject *self, PyObject *args) {
    struct array *a = (struct array *)self;
    struct hearth *h = object_handle(&a->o);
    union hearth_number by = {0}, sum = {0};
    Py_ssize_t index;
    PyObject *value;
    uint64_t i;
    int r;
    if (!h || !PyArg_ParseTuple(args, "nO", &index, &value) || take_index(a, index, &i) ||
        take_number(a, value, &by)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_array_add(h, a->o.name, a->type, i, by, &sum));
    return r ? raise_array(h, r) : give_number(a, sum);
}

static PyObject *array_cas(PyObject *self, PyObject *args) {
    struct array *a = (struct array *)self;
    struct hearth *h = object_handle(&a->o);
    union hearth_number from = {0}, to = {0};
    Py_ssize_t index;
    PyObject *expected, *value;
    uint64_t i;
    int r, done = 0;
    if (!h || !PyArg_ParseTuple(args, "nOO", &index, &expected, &value) ||
        take_index(a, index, &i) || take_number(a, expected, &from) || take_number(a, value, &to)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_array_cas(h, a->o.name, a->type, i, from, to, &done));
    return r ? raise_array(h, r) : PyBool_FromLong(done);
}

static PyObject *array_read(PyObject *self, PyObject *args) {
    struct array *a = (struct array *)self;
    struct hearth *h = object_handle(&a->o);
    Py_ssize_t from, count;
    int r = 0;
    if (!h || !PyArg_ParseTuple(args, "nn", &from, &count)) {
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count * size_of(a->type));
    if (bytes && count > 0) {
        QUICKLY(h, r,
                hearth_array_read(h, a->o.name, a->type, (uint64_t)from, (uint64_t)count,
                                  PyBytes_AS_STRING(bytes)));
    }
    if (r) {
        Py_DECREF(bytes);
        return raise_array(h, r);
    }
    return bytes;
}

static PyObject *array_write(PyObject *self, PyObject *args) {
    struct array *a = (struct array *)self;
    struct hearth *h = object_handle(&a->o);
    Py_ssize_t from;
    Py_buffer data;
    int r = 0;
    if (!h || !PyArg_ParseTuple(args, "ny*", &from, &data)) {
        return NULL;
    }
    Py_ssize_t count = data.len / size_of(a->type);
    if (count > 0) {
        QUICKLY(
            h, r,
            hearth_array_write(h, a->o.name, a->type, (uint64_t)from, (uint64_t)count, data.buf));
    }
    PyBuffer_Release(&data);
    if (r) {
        return raise_array(h, r);
    }
    Py_RETURN_NONE;
}

static Py_ssize_t array_length(PyObject *self) {
    return ((struct array *)self)->n;
}

static PyMethodDef array_methods[] = {{"_open", array_open, METH_VARARGS, NULL},
                                      {"get", METHOD(array_get), METH_FASTCALL, "get(index=0)"},
                                      {"_set", array_set, METH_VARARGS, NULL},
                                      {"_add", array_add, METH_VARARGS, NULL},
                                      {"_cas", array_cas, METH_VARARGS, NULL},
                                      {"_read", array_read, METH_VARARGS, NULL},
                                      {"_write", array_write, METH_VARARGS, NULL},
                                      {NULL, NULL, 0, NULL}};
static PySequenceMethods array_sequence = {.sq_length = array_length};

static PyTypeObject array_type = {
    OBJECT_TYPE("Array", struct array, array_methods, "Array(client, name)"),
    .tp_as_sequence = &array_sequence,
};

/* ---- blocks ---- */

static PyObject *block_create(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    unsigned long long size;
    int r, fd = -1;
    if (!h || !PyArg_ParseTuple(args, "K", &size)) {
        return NULL;
    }
    UNLOCKED(r, hearth_block_create(h, o->name, size, 0, &fd));
    return r ? raise_error(h, r) : PyLong_FromLong(fd);
}

static PyObject *block_open(PyObject *self, PyObject *unused) {
    (void)unused;
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int r, fd = -1;
    if (!h) {
        return NULL;
    }
    UNLOCKED(r, hearth_block_open(h, o->name, 0, &fd, NULL));
    return r ? raise_error(h, r) : PyLong_FromLong(fd);
}

static PyObject *block_unlink(PyObject *self, PyObject *unused) {
    (void)unused;
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int r;
    if (!h) {
        return NULL;
    }
    UNLOCKED(r, hearth_block_unlink(h, o->name));
    return none_or_error(h, r);
}

static PyMethodDef block_methods[] = {{"_create", block_create, METH_VARARGS, NULL},
                                      {"_open", block_open, METH_NOARGS, NULL},
                                      {"_unlink", block_unlink, METH_NOARGS, NULL},
                                      {NULL, NULL, 0, NULL}};

static PyTypeObject block_type = {
    OBJECT_TYPE("Block", struct object, block_methods,
                "Block(client, name): a raw block of memory."),
};

int add_arrays(PyObject *module) {
    return PyModule_AddType(module, &array_type) || PyModule_AddType(module, &block_type) ? -1 : 0;
}

/* SPDX-License-Identifier: MIT */
/* A shared list as Python's own. Each operation is one call of libhearth, and atomic, but for those that Python's objects must be
 * compared or replaced for (slices with steps, sort() of what are no numbers): these are in hearth/objects.py.
 *
 * Fails: as raise_error() says; IndexError, ValueError. */
#include "client/python/py.h"

static Py_ssize_t list_length(PyObject *self) {
    return (Py_ssize_t)name_count(self, hearth_list_length);
}

static PyObject *range(struct object *o, int64_t from, int64_t count) {
    struct hearth *h = object_handle(o);
    const struct hearth_bytes *b = NULL;
    size_t n = 0;
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_list_range(h, o->name, from, count, &b, &n));
    return r ? raise_error(h, r) : decode_many(b, n, o->raw, false);
}

static PyObject *slice(struct object *o, PyObject *key) {
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(key, &start, &stop, &step)) {
        return NULL;
    }
    if (step == 1 && start >= 0 && (stop >= start || stop >= 0)) {
        return range(o, start, stop > start ? stop - start : 0);
    }
    PyObject *all = range(o, 0, -1), *part = all ? PyObject_GetItem(all, key) : NULL;
    Py_XDECREF(all);
    return part;
}

static PyObject *at(struct object *o, Py_ssize_t i) {
    struct hearth *h = object_handle(o);
    struct hearth_bytes b;
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_list_at(h, o->name, i, &b));
    if (r == HEARTH_E_ABSENT) {
        PyErr_SetString(PyExc_IndexError, "list index out of range");
        return NULL;
    }
    return r ? raise_error(h, r) : decode(b, o->raw);
}

static PyObject *list_subscript(PyObject *self, PyObject *key) {
    if (PySlice_Check(key)) {
        return slice((struct object *)self, key);
    }
    Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError);
    return i == -1 && PyErr_Occurred() ? NULL : at((struct object *)self, i);
}

/* Slices are the subclass's. */
static int list_assign(PyObject *self, PyObject *key, PyObject *value) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct encoded e;
    uint64_t n = 0;
    int r;
    if (!h) {
        return -1;
    }
    if (PySlice_Check(key)) {
        PyObject *done =
            PyObject_CallMethod(self, "_assign_slice", "OO", key, value ? value : Py_None);
        Py_XDECREF(done);
        return done ? 0 : -1;
    }
    Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (value) {
        if (encode_value(&e, value, o->raw)) {
            return -1;
        }
        QUICKLY(h, r, hearth_list_set(h, o->name, i, e.bytes));
        encoded_clear(&e);
        n = r == 0;
    } else {
        QUICKLY(h, r, hearth_list_delete(h, o->name, i, 1, &n));
    }
    if (r == HEARTH_E_ABSENT || (r == 0 && n == 0)) {
        PyErr_SetString(PyExc_IndexError, "list assignment index out of range");
        return -1;
    }
    if (r) {
        raise_error(h, r);
    }
    return r ? -1 : 0;
}

static PyObject *push(struct object *o, PyObject *const *items, Py_ssize_t n) {
    struct encoded_many m;
    struct hearth *h = object_handle(o);
    int r = 0;
    if (!h || encode_many(&m, items, n, o->raw, false)) {
        return NULL;
    }
    if (n > 0) {
        QUICKLY(h, r, hearth_list_push(h, o->name, HEARTH_RIGHT, m.bytes, (size_t)n, NULL));
    }
    encoded_many_clear(&m);
    return none_or_error(h, r);
}

static PyObject *push_one(PyObject *self, enum hearth_end end, PyObject *v) {
    struct object *o = (struct object *)self;
    struct encoded e;
    struct hearth *h = object_handle(o);
    int r;
    if (!h || encode_value(&e, v, o->raw)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_list_push(h, o->name, end, &e.bytes, 1, NULL));
    encoded_clear(&e);
    return none_or_error(h, r);
}

static PyObject *list_append(PyObject *self, PyObject *v) {
    return push_one(self, HEARTH_RIGHT, v);
}

static PyObject *list_appendleft(PyObject *self, PyObject *v) {
    return push_one(self, HEARTH_LEFT, v);
}

static PyObject *list_extend(PyObject *self, PyObject *iterable) {
    PyObject *items = PySequence_Tuple(iterable), *result;
    if (!items) {
        return NULL;
    }
    result = push((struct object *)self, &PyTuple_GET_ITEM(items, 0), PyTuple_GET_SIZE(items));
    Py_DECREF(items);
    return result;
}

static PyObject *list_insert(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct encoded e;
    Py_ssize_t i;
    PyObject *v;
    int r = 0;
    if (!PyArg_ParseTuple(args, "nO", &i, &v)) {
        return NULL;
    }
    Py_ssize_t n = list_length(self);
    struct hearth *h = n < 0 ? NULL : object_handle(o);
    if (!h || encode_value(&e, v, o->raw)) {
        return NULL;
    }
    /* As Python has it: what is out of range is one of the ends. */
    i = i < -n ? 0 : i;
    if (i >= n) {
        QUICKLY(h, r, hearth_list_push(h, o->name, HEARTH_RIGHT, &e.bytes, 1, NULL));
    } else {
        QUICKLY(h, r, hearth_list_insert(h, o->name, i, e.bytes, NULL));
    }
    encoded_clear(&e);
    return none_or_error(h, r);
}

static PyObject *list_pop(PyObject *self, PyObject *const *args, Py_ssize_t n_args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct hearth_bytes b;
    Py_ssize_t i = n_args > 0 ? PyNumber_AsSsize_t(args[0], PyExc_IndexError) : -1;
    int r;
    if (!h || (n_args > 0 && i == -1 && PyErr_Occurred())) {
        return NULL;
    }
    if (i == -1 || i == 0) {
        QUICKLY(h, r, hearth_list_pop(h, o->name, i ? HEARTH_RIGHT : HEARTH_LEFT, &b));
        if (r == 0) {
            return decode(b, o->raw);
        }
    } else {
        PyObject *v = at(o, i);
        uint64_t gone = 0;
        if (!v) {
            return NULL;
        }
        QUICKLY(h, r, hearth_list_delete(h, o->name, i, 1, &gone));
        if (r == 0 && gone) {
            return v;
        }
        Py_DECREF(v);
        r = r ? r : HEARTH_E_ABSENT;
    }
    if (r == HEARTH_E_ABSENT) {
        PyErr_SetString(PyExc_IndexError,
                        n_args > 0 ? "pop index out of range" : "pop from empty list");
        return NULL;
    }
    return raise_error(h, r);
}

static PyObject *list_popleft(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct hearth_bytes b;
    int64_t ms = 0;
    int r;
    if (!h || (n > 0 && timeout_ms(args[0], &ms))) {
        return NULL;
    }
    if (ms == 0) {
        QUICKLY(h, r, hearth_list_pop(h, o->name, HEARTH_LEFT, &b));
    } else {
        UNLOCKED(r, hearth_list_pop_wait(h, o->name, HEARTH_LEFT, ms, &b));
    }
    if (r == HEARTH_E_ABSENT) {
        PyErr_SetString(PyExc_IndexError, "pop from empty list");
        return NULL;
    }
    return r ? raise_error(h, r) : decode(b, o->raw);
}

static PyObject *list_reverse(PyObject *self, PyObject *unused) {
    (void)unused;
    return name_none(self, hearth_list_reverse);
}

/* Whether all were numbers, and so are sorted now. */
static PyObject *list_sort_numbers(PyObject *self, PyObject *reverse) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    int r, down = PyObject_IsTrue(reverse);
    if (!h || down < 0) {
        return NULL;
    }
    QUICKLY(h, r, hearth_list_sort(h, o->name, down ? HEARTH_DESCENDING : 0));
    if (r && r != HEARTH_E_NUMBER) {
        return raise_error(h, r);
    }
    return PyBool_FromLong(r == 0);
}

/* Removes the first of equal bytes. Whether there was one. */
static PyObject *list_remove_same(PyObject *self, PyObject *v) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct encoded e;
    uint64_t n = 0;
    int r;
    if (!h || encode_value(&e, v, o->raw)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_list_remove(h, o->name, e.bytes, 1, &n));
    encoded_clear(&e);
    return r ? raise_error(h, r) : PyBool_FromLong(n != 0);
}

/* Deletes `count` (< 0: the rest) from `from` on. */
static PyObject *list_cut(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    long long from, count;
    uint64_t n = 0;
    int r;
    if (!h || !PyArg_ParseTuple(args, "LL", &from, &count)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_list_delete(h, o->name, from, count, &n));
    return r ? raise_error(h, r) : PyLong_FromUnsignedLongLong(n);
}

/* As a list's iterator: it sees what changes meanwhile. */
static PyObject *list_iter(PyObject *self) {
    return PySeqIter_New(self);
}

static PyObject *list_item(PyObject *self, Py_ssize_t i) {
    return at((struct object *)self, i);
}

static PyObject *list_copy(PyObject *self, PyObject *unused) {
    (void)unused;
    return range((struct object *)self, 0, -1);
}

static PyMethodDef list_methods[] = {
    {"append", list_append, METH_O, "Adds one at the end."},
    {"appendleft", list_appendleft, METH_O, "Adds one at the beginning."},
    {"extend", list_extend, METH_O, "Adds all of an iterable at the end, at once."},
    {"insert", list_insert, METH_VARARGS, "insert(index, value)"},
    {"pop", METHOD(list_pop), METH_FASTCALL, "pop(index=-1)"},
    {"popleft", METHOD(list_popleft), METH_FASTCALL,
     "popleft(timeout=0): the first; waits so many seconds for one (None: for ever)."},
    {"reverse", list_reverse, METH_NOARGS, "Turns the order round."},
    {"copy", list_copy, METH_NOARGS, "A list of Python with what is in it now."},
    {"_sort_numbers", list_sort_numbers, METH_O, NULL},
    {"_remove_same", list_remove_same, METH_O, NULL},
    {"_cut", list_cut, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyMappingMethods list_mapping = {list_length, list_subscript, list_assign};
static PySequenceMethods list_sequence = {.sq_length = list_length, .sq_item = list_item};

static PyTypeObject list_type = {
    OBJECT_TYPE("List", struct object, list_methods,
                "List(client, name, raw=False): a shared list; Redis's list."),
    .tp_as_mapping = &list_mapping,
    .tp_as_sequence = &list_sequence,
    .tp_iter = list_iter,
};

int add_list(PyObject *module) {
    return PyModule_AddType(module, &list_type);
}

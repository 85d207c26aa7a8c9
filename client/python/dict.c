/* SPDX-License-Identifier: MIT */
/* A shared dict as Python's own. Each operation is one call of libhearth, and atomic; what gives many things gives those of one moment.
 *
 * Fails: as raise_error() says; KeyError. */
#include "client/python/py.h"

static PyObject *get(struct object *o, PyObject *key, PyObject *none) {
    struct encoded k;
    struct hearth_bytes b;
    struct hearth *h = object_handle(o);
    int r;
    if (!h || encode_key(&k, key, o->raw)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_dict_get(h, o->name, k.bytes, &b));
    encoded_clear(&k);
    if (r == 0) {
        return decode(b, o->raw);
    }
    if (r == HEARTH_E_ABSENT && none) {
        Py_INCREF(none);
        return none;
    }
    return raise_absent(h, r, PyExc_KeyError, key);
}

static PyObject *dict_subscript(PyObject *self, PyObject *key) {
    return get((struct object *)self, key, NULL);
}

static int set(struct object *o, PyObject *key, PyObject *value) {
    struct encoded k, v;
    struct hearth *h = object_handle(o);
    int r;
    if (!h || encode_key(&k, key, o->raw)) {
        return -1;
    }
    if (encode_value(&v, value, o->raw)) {
        encoded_clear(&k);
        return -1;
    }
    QUICKLY(h, r, hearth_dict_set(h, o->name, k.bytes, v.bytes, NULL));
    encoded_clear(&k);
    encoded_clear(&v);
    if (r) {
        raise_error(h, r);
    }
    return r ? -1 : 0;
}

static int dict_assign(PyObject *self, PyObject *key, PyObject *value) {
    struct object *o = (struct object *)self;
    struct encoded k;
    uint64_t n = 0;
    int r;
    if (value) {
        return set(o, key, value);
    }
    struct hearth *h = object_handle(o);
    if (!h || encode_key(&k, key, o->raw)) {
        return -1;
    }
    QUICKLY(h, r, hearth_dict_delete(h, o->name, &k.bytes, 1, &n));
    encoded_clear(&k);
    if (r || n == 0) {
        raise_absent(h, r ? r : HEARTH_E_ABSENT, PyExc_KeyError, key);
        return -1;
    }
    return 0;
}

static int dict_contains(PyObject *self, PyObject *key) {
    struct object *o = (struct object *)self;
    struct encoded k;
    struct hearth *h = object_handle(o);
    int r, there = 0;
    if (!h || encode_key(&k, key, o->raw)) {
        return -1;
    }
    QUICKLY(h, r, hearth_dict_contains(h, o->name, k.bytes, &there));
    encoded_clear(&k);
    if (r) {
        raise_error(h, r);
        return -1;
    }
    return there;
}

static Py_ssize_t dict_length(PyObject *self) {
    return (Py_ssize_t)name_count(self, hearth_dict_length);
}

static bool count_is(Py_ssize_t n, Py_ssize_t min, Py_ssize_t max) {
    if (n < min || n > max) {
        PyErr_Format(PyExc_TypeError, "expected %zd to %zd arguments, got %zd", min, max, n);
        return false;
    }
    return true;
}

static PyObject *dict_get(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    return count_is(n, 1, 2) ? get((struct object *)self, args[0], n > 1 ? args[1] : Py_None)
                             : NULL;
}

static PyObject *dict_setdefault(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    struct object *o = (struct object *)self;
    struct encoded k, v;
    struct hearth_bytes b;
    struct hearth *h = object_handle(o);
    int r;
    if (!h || !count_is(n, 1, 2) || encode_key(&k, args[0], o->raw)) {
        return NULL;
    }
    if (encode_value(&v, n > 1 ? args[1] : Py_None, o->raw)) {
        encoded_clear(&k);
        return NULL;
    }
    QUICKLY(h, r, hearth_dict_setdefault(h, o->name, k.bytes, v.bytes, &b));
    encoded_clear(&k);
    encoded_clear(&v);
    return r ? raise_error(h, r) : decode(b, o->raw);
}

static PyObject *dict_pop(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    struct object *o = (struct object *)self;
    struct encoded k;
    struct hearth_bytes b;
    struct hearth *h = object_handle(o);
    int r;
    if (!h || !count_is(n, 1, 2) || encode_key(&k, args[0], o->raw)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_dict_pop(h, o->name, k.bytes, &b));
    encoded_clear(&k);
    if (r == HEARTH_E_ABSENT && n > 1) {
        Py_INCREF(args[1]);
        return args[1];
    }
    return r ? raise_absent(h, r, PyExc_KeyError, args[0]) : decode(b, o->raw);
}

static PyObject *dict_popitem(PyObject *self, PyObject *unused) {
    (void)unused;
    struct object *o = (struct object *)self;
    struct hearth_bytes b[2];
    struct hearth *h = object_handle(o);
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_dict_popitem(h, o->name, &b[0], &b[1]));
    if (r == HEARTH_E_ABSENT) {
        PyErr_SetString(PyExc_KeyError, "popitem(): dictionary is empty");
        return NULL;
    }
    if (r) {
        return raise_error(h, r);
    }
    PyObject *list = decode_many(b, 2, o->raw, true);
    PyObject *pair = list ? PyList_GetItem(list, 0) : NULL;
    Py_XINCREF(pair);
    Py_XDECREF(list);
    return pair;
}

/* Keys and values in turn, all at once. */
static PyObject *update_list(struct object *o, PyObject *const *items, Py_ssize_t n) {
    struct encoded_many m;
    struct hearth *h = object_handle(o);
    int r = 0;
    if (!h || encode_many(&m, items, n, o->raw, true)) {
        return NULL;
    }
    if (n > 0) {
        QUICKLY(h, r, hearth_dict_update(h, o->name, m.bytes, (size_t)n / 2, NULL));
    }
    encoded_many_clear(&m);
    return none_or_error(h, r);
}

static PyObject *dict_update(PyObject *self, PyObject *args, PyObject *kwargs) {
    /* Python's own dict knows what update() takes. */
    PyObject *plain = PyObject_Call((PyObject *)&PyDict_Type, args, kwargs);
    PyObject *flat = plain ? PyTuple_New(2 * PyDict_GET_SIZE(plain)) : NULL, *pair[2];
    PyObject *result = NULL;
    Py_ssize_t at = 0;
    for (Py_ssize_t n = 0; flat && PyDict_Next(plain, &at, &pair[0], &pair[1]); n += 2) {
        for (int i = 0; i < 2; i++) {
            Py_INCREF(pair[i]);
            PyTuple_SET_ITEM(flat, n + i, pair[i]);
        }
    }
    if (flat) {
        result =
            update_list((struct object *)self, &PyTuple_GET_ITEM(flat, 0), PyTuple_GET_SIZE(flat));
    }
    Py_XDECREF(plain);
    Py_XDECREF(flat);
    return result;
}

static PyObject *items_of(PyObject *self, enum hearth_part part) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    const struct hearth_bytes *b = NULL;
    size_t n = 0;
    int r;
    if (!h) {
        return NULL;
    }
    QUICKLY(h, r, hearth_dict_items(h, o->name, part, &b, &n));
    return r ? raise_error(h, r) : decode_many(b, n, o->raw, part == HEARTH_ITEMS);
}

static PyObject *dict_keys(PyObject *self, PyObject *unused) {
    (void)unused;
    return items_of(self, HEARTH_FIELDS);
}

static PyObject *dict_values(PyObject *self, PyObject *unused) {
    (void)unused;
    return items_of(self, HEARTH_VALUES);
}

static PyObject *dict_items(PyObject *self, PyObject *unused) {
    (void)unused;
    return items_of(self, HEARTH_ITEMS);
}

static PyObject *dict_iter(PyObject *self) {
    PyObject *keys = items_of(self, HEARTH_FIELDS);
    PyObject *it = keys ? PyObject_GetIter(keys) : NULL;
    Py_XDECREF(keys);
    return it;
}

static PyObject *dict_copy(PyObject *self, PyObject *unused) {
    (void)unused;
    PyObject *items = items_of(self, HEARTH_ITEMS), *copy = items ? PyDict_New() : NULL;
    if (copy && PyDict_MergeFromSeq2(copy, items, 1)) {
        Py_CLEAR(copy);
    }
    Py_XDECREF(items);
    return copy;
}

static PyObject *dict_clear(PyObject *self, PyObject *unused) {
    (void)unused;
    return name_none(self, hearth_dict_clear);
}

static PyObject *dict_add(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct encoded k;
    int64_t sum = 0;
    int r;
    if (!h || !count_is(n, 1, 2)) {
        return NULL;
    }
    long long by = n > 1 ? PyLong_AsLongLong(args[1]) : 1;
    if ((by == -1 && PyErr_Occurred()) || encode_key(&k, args[0], o->raw)) {
        return NULL;
    }
    QUICKLY(h, r, hearth_dict_add(h, o->name, k.bytes, by, &sum));
    encoded_clear(&k);
    return r ? raise_error(h, r) : PyLong_FromLongLong(sum);
}

static PyObject *dict_swap(PyObject *self, PyObject *args) {
    struct object *o = (struct object *)self;
    struct hearth *h = object_handle(o);
    struct encoded k, a, b;
    PyObject *key, *expected, *value;
    int r, done = 0;
    if (!h || !PyArg_ParseTuple(args, "OOO", &key, &expected, &value) ||
        encode_key(&k, key, o->raw)) {
        return NULL;
    }
    bool good = encode_value(&a, expected, o->raw) == 0;
    if (good && encode_value(&b, value, o->raw)) {
        encoded_clear(&a);
        good = false;
    }
    if (!good) {
        encoded_clear(&k);
        return NULL;
    }
    QUICKLY(h, r, hearth_dict_swap(h, o->name, k.bytes, &a.bytes, &b.bytes, &done));
    encoded_clear(&k);
    encoded_clear(&a);
    encoded_clear(&b);
    return r ? raise_error(h, r) : PyBool_FromLong(done);
}

static PyMethodDef dict_methods[] = {
    {"get", METHOD(dict_get), METH_FASTCALL, "get(key, default=None)"},
    {"setdefault", METHOD(dict_setdefault), METH_FASTCALL, "setdefault(key, default=None)"},
    {"pop", METHOD(dict_pop), METH_FASTCALL, "pop(key[, default])"},
    {"popitem", dict_popitem, METH_NOARGS, "Removes and gives any item."},
    {"update", METHOD(dict_update), METH_VARARGS | METH_KEYWORDS, "As dict.update(); all at once."},
    {"keys", dict_keys, METH_NOARGS, "A list of the keys, as they are now."},
    {"values", dict_values, METH_NOARGS, "A list of the values, as they are now."},
    {"items", dict_items, METH_NOARGS, "A list of the items, as they are now."},
    {"copy", dict_copy, METH_NOARGS, "A dict of Python with what is in it now."},
    {"clear", dict_clear, METH_NOARGS, "Removes everything."},
    {"add", METHOD(dict_add), METH_FASTCALL,
     "add(key, by=1): adds to an integer, atomically; absent counts as 0. The sum."},
    {"swap", dict_swap, METH_VARARGS,
     "swap(key, expected, value): sets it if it is as expected. Whether it did."},
    {NULL, NULL, 0, NULL}};

static PyMappingMethods dict_mapping = {dict_length, dict_subscript, dict_assign};
static PySequenceMethods dict_sequence = {.sq_contains = dict_contains};

static PyTypeObject dict_type = {
    OBJECT_TYPE("Dict", struct object, dict_methods,
                "Dict(client, name, raw=False): a shared dict; Redis's hash."),
    .tp_as_mapping = &dict_mapping,
    .tp_as_sequence = &dict_sequence,
    .tp_iter = dict_iter,
};

int add_dict(PyObject *module) {
    return PyModule_AddType(module, &dict_type);
}

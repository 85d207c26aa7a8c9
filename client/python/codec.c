/* SPDX-License-Identifier: MIT */
/* Python objects as bytes, so that the simple ones are what every other program sees as well:
 *
 *     str                 its UTF-8
 *     int                 its decimal digits, up to 18 of them: HINCRBY and hearth_dict_add() add to it
 *     0x01 ...            a str that would be taken for something else here: its UTF-8 follows
 *     0x02 ...            bytes
 *     0x03, 8 bytes       a float, little-endian
 *     0x04, 0x05, 0x06    None, True, False
 *     0x07 ...            a tuple as a key: for each element 4 bytes of length, then the element as a key
 *     0x80 ...            anything else: a pickle, which begins so (and no UTF-8 text does)
 *
 * Bytes of others that are none of these are given back as bytes. As a key, what is equal gives equal bytes: True and 1.0 become 1,
 * and a pickle is made without its memory of what it has seen, which depends on identity.
 *
 * Single values are decoded without running Python code or the collector of cycles, so the handle's buffer they lie in cannot change
 * meanwhile; a pickle is copied first, and so are all of many values.
 *
 * Fails: what cannot be pickled; a key that cannot be hashed; a pickle that does not load. */
#include "client/python/py.h"

#include <stdlib.h>
#include <string.h>

enum {
    TAG_STR = 1,
    TAG_BYTES = 2,
    TAG_FLOAT = 3,
    TAG_NONE = 4,
    TAG_TRUE = 5,
    TAG_FALSE = 6,
    TAG_TUPLE = 7,
    TAG_LAST = 8, /* below it nothing else is used */
    TAG_PICKLE = 0x80,
    DIGITS_MAX = 18,
};
#define INT_LIMIT INT64_C(1000000000000000000)

static PyObject *pickle_dumps, *pickle_loads, *forking_dumps, *pickle_key, *protocol;

/* ---- numbers as text ---- */

/* Is it an integer as encode_int() writes it? */
static bool parse_int(const char *p, size_t n, int64_t *ret) {
    bool minus = n > 0 && *p == '-';
    int64_t v = 0;
    size_t i = minus;
    if (n <= (size_t)minus || n > DIGITS_MAX + (size_t)minus || (p[i] == '0' && (n > 1 || minus))) {
        return false;
    }
    for (; i < n; i++) {
        unsigned d = (unsigned char)p[i] - '0';
        if (d > 9) {
            return false;
        }
        v = v * 10 + d;
    }
    *ret = minus ? -v : v;
    return true;
}

static void put_int(struct encoded *e, int64_t v) {
    char *end = e->small + CODEC_SMALL, *p = end;
    uint64_t rest = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do {
        *--p = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (v < 0) {
        *--p = '-';
    }
    e->bytes = (struct hearth_bytes){p, (size_t)(end - p)};
}

/* ---- encoding ---- */

/* A tag and what follows it. */
static int put_tagged(struct encoded *e, char tag, const char *p, size_t n) {
    char *to = e->small;
    if (n + 1 > CODEC_SMALL) {
        e->owner = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n + 1);
        if (!e->owner) {
            return -1;
        }
        to = PyBytes_AS_STRING(e->owner);
    }
    to[0] = tag;
    memcpy(to + 1, p, n);
    e->bytes = (struct hearth_bytes){to, n + 1};
    return 0;
}

static int put_owned(struct encoded *e, PyObject *bytes) {
    if (!bytes) {
        return -1;
    }
    if (PyBytes_CheckExact(bytes)) {
        e->owner = bytes;
        e->bytes = (struct hearth_bytes){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
        return 0;
    }
    int r = PyObject_GetBuffer(bytes, &e->view, PyBUF_SIMPLE); /* ForkingPickler gives a view */
    Py_DECREF(bytes);
    if (r == 0) {
        e->bytes = (struct hearth_bytes){e->view.buf, (size_t)e->view.len};
    }
    return r;
}

static int put_pickle(struct encoded *e, PyObject *v) {
    PyObject *bytes = PyObject_CallFunctionObjArgs(pickle_dumps, v, protocol, NULL);
    if (!bytes && PyErr_ExceptionMatches(PyExc_Exception)) {
        /* What multiprocessing knows how to send besides: connections, sockets. */
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        bytes = PyObject_CallFunctionObjArgs(forking_dumps, v, NULL);
        if (bytes) {
            Py_XDECREF(type);
            Py_XDECREF(value);
            Py_XDECREF(trace);
        } else {
            PyErr_Restore(type, value, trace); /* the plain one says it better */
        }
    }
    return put_owned(e, bytes);
}

static int put_str(struct encoded *e, PyObject *v, bool raw) {
    Py_ssize_t n;
    int64_t number;
    const char *p = PyUnicode_AsUTF8AndSize(v, &n);
    if (!p) { /* surrogates */
        if (raw) {
            return -1;
        }
        PyErr_Clear();
        return put_pickle(e, v);
    }
    unsigned char first = n ? (unsigned char)*p : 'a';
    if (!raw &&
        (first < TAG_LAST || (first <= '9' && parse_int(p, (size_t)n, &number)))) { /* or '-' */
        return put_tagged(e, TAG_STR, p, (size_t)n);
    }
    e->bytes = (struct hearth_bytes){p, (size_t)n};
    return 0;
}

int take_bytes(struct encoded *e, PyObject *v) {
    *e = (struct encoded){0};
    if (PyUnicode_Check(v)) {
        return put_str(e, v, true);
    }
    if (PyBytes_CheckExact(v)) {
        e->bytes = (struct hearth_bytes){PyBytes_AS_STRING(v), (size_t)PyBytes_GET_SIZE(v)};
        return 0;
    }
    if (PyObject_GetBuffer(v, &e->view, PyBUF_SIMPLE)) {
        return -1;
    }
    e->bytes = (struct hearth_bytes){e->view.buf, (size_t)e->view.len};
    return 0;
}

static int encode_raw(struct encoded *e, PyObject *v) {
    if (PyLong_Check(v) || PyFloat_Check(v)) {
        PyObject *text = PyObject_Str(v);
        int r = text ? put_str(e, text, true) : -1;
        e->owner = text;
        return r;
    }
    return take_bytes(e, v);
}

static inline void encoded_init(struct encoded *e) {
    e->owner = NULL;
    e->view.obj = NULL;
}

int encode_value(struct encoded *e, PyObject *v, bool raw) {
    int overflow;
    encoded_init(e);
    if (raw) {
        return encode_raw(e, v);
    }
    if (PyUnicode_CheckExact(v)) {
        return put_str(e, v, false);
    }
    if (PyLong_CheckExact(v)) {
        long long n = PyLong_AsLongLongAndOverflow(v, &overflow);
        if (!overflow && n > -INT_LIMIT && n < INT_LIMIT) {
            put_int(e, n);
            return 0;
        }
    } else if (PyBytes_CheckExact(v)) {
        return put_tagged(e, TAG_BYTES, PyBytes_AS_STRING(v), (size_t)PyBytes_GET_SIZE(v));
    } else if (PyFloat_CheckExact(v)) {
        double d = PyFloat_AS_DOUBLE(v);
        return put_tagged(e, TAG_FLOAT, (const char *)&d, sizeof(d));
    } else if (v == Py_None || v == Py_True || v == Py_False) {
        return put_tagged(e, v == Py_None ? TAG_NONE : v == Py_True ? TAG_TRUE : TAG_FALSE, "", 0);
    }
    return put_pickle(e, v);
}

static int put_tuple(struct encoded *e, PyObject *key) {
    PyObject *all = PyBytes_FromStringAndSize("\7", 1);
    for (Py_ssize_t i = 0; all && i < PyTuple_GET_SIZE(key); i++) {
        struct encoded part;
        if (encode_key(&part, PyTuple_GET_ITEM(key, i), false)) {
            Py_CLEAR(all);
            break;
        }
        uint32_t n = (uint32_t)part.bytes.len;
        PyBytes_ConcatAndDel(&all, PyBytes_FromStringAndSize((const char *)&n, sizeof(n)));
        if (all) {
            PyBytes_ConcatAndDel(&all, PyBytes_FromStringAndSize(part.bytes.data, (Py_ssize_t)n));
        }
        encoded_clear(&part);
    }
    return put_owned(e, all);
}

int encode_key(struct encoded *e, PyObject *key, bool raw) {
    if (raw || PyUnicode_CheckExact(key) || PyLong_CheckExact(key) || PyBytes_CheckExact(key) ||
        key == Py_None) {
        return encode_value(e, key, raw);
    }
    encoded_init(e);
    if (PyObject_Hash(key) == -1) {
        return -1;
    }
    if (PyTuple_CheckExact(key)) {
        return put_tuple(e, key);
    }
    if (PyFloat_CheckExact(key) || PyBool_Check(key)) {
        double d = PyFloat_AsDouble(key);
        if (d > (double)-INT_LIMIT && d < (double)INT_LIMIT && d == (double)(int64_t)d) {
            put_int(e, (int64_t)d);
            return 0;
        }
        return encode_value(e, key, false);
    }
    return put_owned(e, PyObject_CallFunctionObjArgs(pickle_key, key, NULL));
}

void encoded_clear(struct encoded *e) {
    Py_CLEAR(e->owner);
    if (e->view.obj) {
        PyBuffer_Release(&e->view);
    }
}

int encode_many(struct encoded_many *m, PyObject *const *items, Py_ssize_t n, bool raw,
                bool pairs) {
    struct hearth_bytes *bytes = PyMem_Calloc((size_t)n + 1, sizeof(*bytes));
    struct encoded *all = PyMem_Calloc((size_t)n + 1, sizeof(*all));
    *m = (struct encoded_many){0};
    if (!bytes || !all) {
        PyMem_Free(bytes);
        PyMem_Free(all);
        PyErr_NoMemory();
        return -1;
    }
    for (*m = (struct encoded_many){bytes, all, 0}; m->n < n; m->n++) {
        struct encoded *e = &all[m->n];
        bool key = pairs && m->n % 2 == 0;
        if (key ? encode_key(e, items[m->n], raw) : encode_value(e, items[m->n], raw)) {
            encoded_many_clear(m);
            return -1;
        }
        bytes[m->n] = e->bytes;
    }
    return 0;
}

void encoded_many_clear(struct encoded_many *m) {
    for (Py_ssize_t i = 0; i < m->n; i++) {
        encoded_clear(&m->e[i]);
    }
    PyMem_Free(m->bytes);
    PyMem_Free(m->e);
    *m = (struct encoded_many){0};
}

/* ---- decoding ---- */

static PyObject *load_pickle(const char *p, size_t n) {
    PyObject *copy = PyBytes_FromStringAndSize(p, (Py_ssize_t)n);
    PyObject *v = copy ? PyObject_CallOneArg(pickle_loads, copy) : NULL;
    Py_XDECREF(copy);
    return v;
}

static PyObject *load_tuple(const char *p, size_t n) {
    PyObject *copy = PyBytes_FromStringAndSize(p, (Py_ssize_t)n);
    PyObject *list = copy ? PyList_New(0) : NULL, *tuple = NULL;
    bool good = list != NULL;
    p = copy ? PyBytes_AS_STRING(copy) : p;
    for (size_t at = 1; good && at < n;) {
        uint32_t len = UINT32_MAX;
        if (n - at >= sizeof(len)) {
            memcpy(&len, p + at, sizeof(len));
        }
        at += sizeof(len);
        if (at > n || len > n - at) {
            PyErr_SetString(PyExc_ValueError, "not a tuple that was stored here");
            good = false;
            break;
        }
        PyObject *v = decode((struct hearth_bytes){p + at, len}, false);
        good = v && PyList_Append(list, v) == 0;
        Py_XDECREF(v);
        at += len;
    }
    if (good) {
        tuple = PyList_AsTuple(list);
    }
    Py_XDECREF(list);
    Py_XDECREF(copy);
    return tuple;
}

static PyObject *load_text(const char *p, size_t n) {
    PyObject *v = PyUnicode_DecodeUTF8(p, (Py_ssize_t)n, NULL);
    if (!v && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        v = PyBytes_FromStringAndSize(p, (Py_ssize_t)n);
    }
    return v;
}

static PyObject *load_tagged(const char *p, size_t n) {
    double d;
    switch ((unsigned char)*p) {
    case TAG_STR:
        return load_text(p + 1, n - 1);
    case TAG_BYTES:
        return PyBytes_FromStringAndSize(p + 1, (Py_ssize_t)n - 1);
    case TAG_FLOAT:
        if (n == 1 + sizeof(d)) {
            memcpy(&d, p + 1, sizeof(d));
            return PyFloat_FromDouble(d);
        }
        break;
    case TAG_NONE:
        Py_RETURN_NONE;
    case TAG_TRUE:
        Py_RETURN_TRUE;
    case TAG_FALSE:
        Py_RETURN_FALSE;
    case TAG_TUPLE:
        return load_tuple(p, n);
    default:
        break;
    }
    return PyBytes_FromStringAndSize(p, (Py_ssize_t)n);
}

PyObject *decode(struct hearth_bytes b, bool raw) {
    const char *p = b.data;
    int64_t number;
    if (raw || b.len == 0) {
        return raw ? PyBytes_FromStringAndSize(p, (Py_ssize_t)b.len)
                   : PyUnicode_FromStringAndSize("", 0);
    }
    unsigned char first = (unsigned char)*p;
    if (first <= '9') {
        if (first < TAG_LAST) {
            return load_tagged(p, b.len);
        }
        if (parse_int(p, b.len, &number)) {
            return PyLong_FromLongLong(number);
        }
    } else if (first == TAG_PICKLE && b.len > 2 && p[1] >= 2 && p[1] <= 5) {
        return load_pickle(p, b.len);
    }
    return load_text(p, b.len);
}

PyObject *decode_many(const struct hearth_bytes *b, size_t n, bool raw, bool pairs) {
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        total += b[i].len;
    }
    struct hearth_bytes *copy = malloc((n + 1) * sizeof(*copy));
    char *bytes = malloc(total + 1), *p = bytes;
    if (!copy || !bytes) {
        free(copy);
        free(bytes);
        return PyErr_NoMemory();
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = (struct hearth_bytes){p, b[i].len};
        if (b[i].len) {
            memcpy(p, b[i].data, b[i].len);
        }
        p += b[i].len;
    }
    size_t step = pairs ? 2 : 1;
    PyObject *list = PyList_New((Py_ssize_t)(n / step));
    for (size_t i = 0; list && i + step <= n; i += step) {
        PyObject *v = decode(copy[i], raw);
        if (v && pairs) {
            PyObject *second = decode(copy[i + 1], raw), *both = NULL;
            if (second) {
                both = PyTuple_Pack(2, v, second);
                Py_DECREF(second);
            }
            Py_DECREF(v);
            v = both;
        }
        if (!v) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)(i / step), v);
    }
    free(copy);
    free(bytes);
    return list;
}

/* ---- the rest ---- */

int timeout_ms(PyObject *timeout, int64_t *ret) {
    if (timeout == Py_None) {
        *ret = -1;
        return 0;
    }
    double s = PyFloat_AsDouble(timeout);
    if (s == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    double ms = s * 1000;
    *ret = !(ms > 0) ? 0 : ms >= 9e15 ? (int64_t)9e15 : (int64_t)ms + ((double)(int64_t)ms < ms);
    return 0;
}

static PyObject *attribute_of(const char *module, const char *name) {
    PyObject *m = PyImport_ImportModule(module);
    PyObject *a = m ? PyObject_GetAttrString(m, name) : NULL;
    Py_XDECREF(m);
    return a;
}

int codec_init(void) {
    pickle_dumps = attribute_of("pickle", "dumps");
    pickle_loads = attribute_of("pickle", "loads");
    protocol = attribute_of("pickle", "HIGHEST_PROTOCOL");
    forking_dumps = attribute_of("hearth._pickle", "forking_dumps");
    pickle_key = attribute_of("hearth._pickle", "dump_key");
    return pickle_dumps && pickle_loads && protocol && forking_dumps && pickle_key ? 0 : -1;
}

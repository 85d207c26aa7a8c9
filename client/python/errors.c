/* SPDX-License-Identifier: MIT */
/* What libhearth returns, as Python exceptions. The classes are those of hearth/errors.py, so that they have docstrings and can be
 * pickled like any other; here is only which is which.
 *
 * Fails: errors_init() when hearth.errors cannot be imported. */
#include "client/python/py.h"

#include <errno.h>

static PyObject *errors; /* the module hearth.errors */

static PyObject *class_named(const char *name) {
    PyObject *class = PyObject_GetAttrString(errors, name);
    if (!class) {
        PyErr_Clear();
        Py_INCREF(PyExc_RuntimeError);
        return PyExc_RuntimeError;
    }
    return class;
}

static const char *name_of(int r) {
    switch (r) {
    case HEARTH_E_REFUSED:
        return "Refused";
    case HEARTH_E_NOPOOL:
        return "NoPool";
    case HEARTH_E_NOHANDLER:
        return "NoHandler";
    case HEARTH_E_BUSY:
        return "Busy";
    case HEARTH_E_OOM:
        return "OutOfMemory";
    case HEARTH_E_NOTASK:
        return "NoTask";
    case HEARTH_E_PENDING:
        return "Timeout";
    case HEARTH_E_DISCONNECTED:
        return "Disconnected";
    case HEARTH_E_ABSENT:
        return "Absent";
    case HEARTH_E_EXISTS:
        return "Exists";
    case HEARTH_E_TYPE:
        return "WrongType";
    case HEARTH_E_NUMBER:
        return "NotANumber";
    case HEARTH_E_UNEXPECTED:
        return "Unexpected";
    case HEARTH_E_ENDED:
        return "Ended";
    case HEARTH_E_QUOTA:
        return "Quota";
    case HEARTH_E_NOTOWNER:
        return "NotOwner";
    case HEARTH_E_DEADLOCK:
        return "Deadlock";
    case HEARTH_E_BROKEN:
        return "Broken";
    case HEARTH_E_CLOSED:
        return "Closed";
    case HEARTH_E_OVERFLOW:
        return "TooMany";
    default:
        return "Error";
    }
}

PyObject *raise_error(struct hearth *h, int r) {
    const char *text = h ? hearth_errmsg(h) : "";
    if (r == -EINTR && PyErr_Occurred()) {
        return NULL; /* a signal handler has raised */
    }
    if (r == -ENOMEM) {
        return PyErr_NoMemory();
    }
    if (r < 0) {
        errno = -r;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *class = class_named(name_of(r));
    PyErr_SetString(class, *text ? text : hearth_strerror(r));
    Py_DECREF(class);
    if (h && (r == HEARTH_E_DISCONNECTED || r == HEARTH_E_PROTOCOL)) {
        handle_lost(h);
    }
    return NULL;
}

PyObject *none_or_error(struct hearth *h, int r) {
    if (r) {
        return raise_error(h, r);
    }
    Py_RETURN_NONE;
}

PyObject *raise_reply(const char *text) {
    PyObject *class = class_named("ReplyError");
    PyErr_SetString(class, text);
    Py_DECREF(class);
    return NULL;
}

PyObject *raise_absent(struct hearth *h, int r, PyObject *absent, PyObject *what) {
    if (r != HEARTH_E_ABSENT) {
        return raise_error(h, r);
    }
    PyErr_SetObject(absent, what);
    return NULL;
}

PyObject *raise_task(const struct hearth_result *r) {
    static const char *const names[] = {"Error",        "TaskFailed",    "TaskLost",
                                        "TaskTimeout",  "TaskCancelled", "Refused",
                                        "Disconnected", "TaskExpired"};
    if (r->status == HEARTH_REFUSED) {
        PyObject *class = class_named(name_of(r->error));
        PyErr_SetString(class, *r->cause ? r->cause : hearth_strerror(r->error));
        Py_DECREF(class);
        return NULL;
    }
    PyObject *class = class_named(names[r->status]);
    if (r->status == HEARTH_DISCONNECTED) {
        PyErr_SetString(class, "the connection was lost before the task had ended");
    } else {
        PyObject *error = PyObject_CallFunction(class, "sis", r->cause, r->code, r->id);
        if (error) {
            PyErr_SetObject(class, error);
            Py_DECREF(error);
        }
    }
    Py_DECREF(class);
    return NULL;
}

int errors_init(void) {
    errors = PyImport_ImportModule("hearth.errors");
    return errors ? 0 : -1;
}

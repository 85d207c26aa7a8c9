/* SPDX-License-Identifier: MIT */
/* The extension module _hearth: libhearth for Python. What users see is the package hearth, in Python on top of it.
 *
 * Fails: importing it, when the package's own modules cannot be. */
#include "client/python/py.h"

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_hearth",
    .m_doc = "libhearth for the package hearth.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__hearth(void);

PyMODINIT_FUNC PyInit__hearth(void) {
    PyObject *module = PyModule_Create(&module_def);
    if (module && (errors_init() || codec_init() || add_handles(module) || add_objects(module) ||
                   add_dict(module) || add_list(module) || add_tasks(module) || add_sync(module) ||
                   add_queues(module) || add_arrays(module))) {
        Py_CLEAR(module);
    }
    return module;
}

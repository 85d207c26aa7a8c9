/* SPDX-License-Identifier: MIT */
/* LMDB beside the dict: the embedded store that processes share by mapping it, on /dev/shm, where no disk is in the way.
 *
 * Each get and each put is a transaction, as each call on a dict is. A get renews one read transaction, which is the cheapest
 * way there is; a put commits without any flushing to storage and writes through the map.
 *
 * The files are unlinked as soon as they are open. Fails: what did not work is said on stderr and returned; 0 rates when the
 * library was not there when this was built, or /dev/shm is not there now. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/objects.h"

#ifdef HAVE_LMDB
#include <lmdb.h>

static struct {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *reading;
} lmdb;

/* LMDB's own error codes lie far below all errno: only the sign is of use here. */
static int failed(const char *what, int r) {
    fprintf(stderr, "%s of LMDB: %s\n", what, mdb_strerror(r));
    return -EIO;
}

static int open_files(const char *dir) {
    char path[64], lock[72];
    MDB_txn *txn;
    snprintf(path, sizeof(path), "%s/data", dir);
    snprintf(lock, sizeof(lock), "%s-lock", path);
    int r = mdb_env_create(&lmdb.env);
    r = r ? r : mdb_env_set_mapsize(lmdb.env, (size_t)256 << 20);
    r = r ? r : mdb_env_open(lmdb.env, path, MDB_NOSUBDIR | MDB_WRITEMAP | MDB_NOSYNC, 0600);
    unlink(path);
    unlink(lock);
    r = r ? r : mdb_txn_begin(lmdb.env, NULL, 0, &txn);
    if (r == 0) {
        r = mdb_dbi_open(txn, NULL, 0, &lmdb.dbi);
        r = r ? r : mdb_txn_commit(txn);
    }
    if (r == 0) {
        r = mdb_txn_begin(lmdb.env, NULL, MDB_RDONLY, &lmdb.reading);
    }
    if (r == 0) {
        mdb_txn_reset(lmdb.reading);
    }
    return r ? failed("opening", r) : 1;
}

int objects_lmdb_open(void) {
    char dir[] = "/dev/shm/hearth-bench.XXXXXX";
    if (!mkdtemp(dir)) {
        return 0;
    }
    int r = open_files(dir);
    rmdir(dir);
    return r;
}

int objects_lmdb_set(const char *key, const char *value) {
    MDB_val k = {KEY_BYTES_16, (void *)(uintptr_t)key},
            v = {VALUE_BYTES_64, (void *)(uintptr_t)value};
    MDB_txn *txn;
    int r = mdb_txn_begin(lmdb.env, NULL, 0, &txn);
    if (r == 0) {
        r = mdb_put(txn, lmdb.dbi, &k, &v, 0);
        if (r) {
            mdb_txn_abort(txn);
        } else {
            r = mdb_txn_commit(txn);
        }
    }
    return r ? failed("a put", r) : 0;
}

int objects_lmdb_get(const char *key, char value[VALUE_BYTES_64]) {
    MDB_val k = {KEY_BYTES_16, (void *)(uintptr_t)key}, v;
    int r = mdb_txn_renew(lmdb.reading);
    if (r == 0) {
        r = mdb_get(lmdb.reading, lmdb.dbi, &k, &v);
        if (r == 0) {
            memcpy(value, v.mv_data, VALUE_BYTES_64);
        }
        mdb_txn_reset(lmdb.reading);
    }
    return r ? failed("a get", r) : 0;
}

void objects_lmdb_close(void) {
    if (lmdb.env) {
        mdb_txn_abort(lmdb.reading);
        mdb_env_close(lmdb.env);
        lmdb.env = NULL;
    }
}
#else
int objects_lmdb_open(void) {
    return 0;
}

int objects_lmdb_set(const char *key, const char *value) {
    (void)key;
    (void)value;
    return -ENOSYS;
}

int objects_lmdb_get(const char *key, char value[VALUE_BYTES_64]) {
    (void)key;
    (void)value;
    return -ENOSYS;
}

void objects_lmdb_close(void) {
}
#endif

/* SPDX-License-Identifier: MIT */
/* What libconfig 1.5 does badly, caught before it sees the text:
 *
 *   - an integer that does not fit 32 bits and has no L behind it is cut silently;
 *   - @include of a directory, or of a file that cannot be read to its end, makes its scanner call
 * exit();
 *   - @include of an absolute path has the include directory put in front of it;
 *   - a NUL byte ends the file silently;
 *   - an unterminated string or comment is reported at the end of the file, and the string leaks.
 *
 * The scan is a small lexer that knows comments, strings, words and numbers, just well enough to
 * tell them apart; the grammar is libconfig's business. Included files are scanned too, in the
 * place where they are named. Fails: -EINVAL with the place and what to write instead; -errno of
 * reading a file. */
#include "daemon/config_scan.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/cleanup.h"
#include "lib/base/fd.h"

enum {
    FILE_MAX = 1 << 20,
    INCLUDE_DEPTH = 9,  /* libconfig's own limit is 10 */
    INCLUDES_MAX = 256, /* in all, so that files including each other twice do not take for ever */
    NEST_MAX = 32,      /* brackets; a configuration has 3 */
};

struct scan {
    const char *dir;
    unsigned depth, includes;
    struct config_error *err;
};

struct text {
    const char *at, *end;
    const char *file;
    unsigned line;
};

__attribute__((format(printf, 4, 5))) static int fail(struct scan *s, const char *file,
                                                      unsigned line, const char *fmt, ...) {
    va_list ap;
    snprintf(s->err->file, sizeof(s->err->file), "%s", file);
    s->err->line = line;
    s->err->key[0] = '\0';
    va_start(ap, fmt);
    vsnprintf(s->err->text, sizeof(s->err->text), fmt, ap);
    va_end(ap);
    return -EINVAL;
}

int config_read_text(const char *path, char **ret, size_t *ret_len, struct config_error *err) {
    struct scan s = {.err = err};
    struct stat st;
    int r = 0;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        r = -errno;
    } else if (S_ISDIR(st.st_mode)) {
        r = -EISDIR;
    } else {
        r = fd_read_all(fd, FILE_MAX, ret, ret_len);
    }
    if (r == -EFBIG) {
        fail(&s, path, 0, "larger than 1 MiB, which no configuration is");
    } else if (r) {
        fail(&s, path, 0, "cannot read it: %s", strerror(-r));
    }
    return r;
}

static int skip_block_comment(struct scan *s, struct text *t) {
    unsigned begin = t->line;
    for (t->at += 2; t->at + 1 < t->end; t->at++) {
        if (t->at[0] == '*' && t->at[1] == '/') {
            t->at += 2;
            return 0;
        }
        t->line += *t->at == '\n';
    }
    return fail(s, t->file, begin, "a comment begins here and never ends");
}

static int skip_string(struct scan *s, struct text *t) {
    unsigned begin = t->line;
    for (t->at++; t->at < t->end; t->at++) {
        if (*t->at == '"') {
            t->at++;
            return 0;
        }
        if (*t->at == '\\' && t->at + 1 < t->end) {
            t->at++;
        }
        t->line += *t->at == '\n';
    }
    return fail(s, t->file, begin, "a string begins here and never ends");
}

/* A number: whether libconfig will take it for what it says. Floating-point numbers are let pass.
 */
static int skip_number(struct scan *s, struct text *t, bool negative) {
    const char *begin = t->at;
    bool hex = t->end - begin > 2 && begin[0] == '0' && (begin[1] == 'x' || begin[1] == 'X');
    uint64_t v = 0;
    bool over = false;
    for (t->at += hex ? 2 : 0; t->at < t->end; t->at++) {
        int c = (unsigned char)*t->at;
        if (!(hex ? isxdigit(c) : isdigit(c))) {
            break;
        }
        unsigned digit = isdigit(c) ? (unsigned)(c - '0') : (unsigned)(tolower(c) - 'a' + 10);
        over |= __builtin_mul_overflow(v, hex ? 16 : 10, &v);
        over |= __builtin_add_overflow(v, digit, &v);
    }
    int c = t->at < t->end ? *t->at : 0;
    if (!hex && (c == '.' || c == 'e' || c == 'E')) {
        while (t->at < t->end && *t->at && strchr("0123456789.eE+-", *t->at)) {
            t->at++;
        }
        return 0;
    }
    int digits = (int)(t->at - begin);
    bool wide = c == 'L';
    while (t->at < t->end && *t->at == 'L') {
        t->at++;
    }
    if (over || v > (wide ? (uint64_t)INT64_MAX : (uint64_t)INT32_MAX) + negative) {
        return fail(s, t->file, t->line, "the number %s%.*s is too large%s", negative ? "-" : "",
                    digits < 40 ? digits : 40, begin,
                    wide ? ""
                         : ": write a size as a string with a unit (\"4G\"), any other "
                           "number above 2147483647 with an L behind it (5000000000L)");
    }
    return 0;
}

static int scan_file(struct scan *s, const char *path);

/* At "@include" in the beginning of a line. What is not quite an include is left to libconfig to
 * refuse. */
static int scan_include(struct scan *s, struct text *t) {
    const char *p = t->at + strlen("@include");
    if (p == t->end || (*p != ' ' && *p != '\t')) {
        t->at++;
        return 0;
    }
    while (p < t->end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    const char *close = p + 1 < t->end ? memchr(p + 1, '"', (size_t)(t->end - p - 1)) : NULL;
    if (p == t->end || *p != '"' || !close) {
        t->at++;
        return 0;
    }
    int n = (int)(close - p - 1);
    const char *name = p + 1;
    t->at = close + 1;
    if (!s->dir) {
        return fail(s, t->file, t->line, "@include is not possible here");
    }
    if (n == 0 || memchr(name, '\\', (size_t)n) || memchr(name, '\n', (size_t)n) || *name == '/') {
        return fail(s, t->file, t->line,
                    "@include takes the name of a file relative to %s, without backslashes",
                    s->dir);
    }
    if (s->depth >= INCLUDE_DEPTH || ++s->includes > INCLUDES_MAX) {
        return fail(s, t->file, t->line, "too many included files: does one include itself?");
    }
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%.*s", s->dir, n, name) >= (int)sizeof(path)) {
        return fail(s, t->file, t->line, "the name of the included file is too long");
    }
    struct config_error inner = {0};
    struct config_error *outer = s->err;
    s->err = &inner;
    s->depth++;
    int r = scan_file(s, path);
    s->depth--;
    s->err = outer;
    if (r && inner.line == 0) { /* not readable: the mistake is in the line that names it */
        fail(s, t->file, t->line, "@include \"%.*s\": %.200s", n, name, inner.text);
    } else if (r) {
        *outer = inner;
    }
    return r;
}

static bool is_word(int c) {
    return isalnum(c) || c == '_' || c == '*' || c == '-';
}

/* One step: skips a token. */
static int scan_token(struct scan *s, struct text *t, int *nest, bool line_start) {
    size_t left = (size_t)(t->end - t->at);
    int c = (unsigned char)t->at[0];
    int next = left > 1 ? (unsigned char)t->at[1] : 0;
    if (c == '#' || (c == '/' && next == '/')) {
        const char *eol = memchr(t->at, '\n', left);
        t->at = eol ? eol : t->end;
        return 0;
    }
    if (c == '/' && next == '*') {
        return skip_block_comment(s, t);
    }
    if (c == '"') {
        return skip_string(s, t);
    }
    if (c == '@' && line_start && left >= 8 && !memcmp(t->at, "@include", 8)) {
        return scan_include(s, t);
    }
    if (isdigit(c) || ((c == '-' || c == '+') && isdigit(next))) {
        t->at += !isdigit(c);
        return skip_number(s, t, c == '-');
    }
    if (isalpha(c) || c == '*') {
        while (t->at < t->end && is_word((unsigned char)*t->at)) {
            t->at++;
        }
        return 0;
    }
    if (c == '\0') {
        return fail(s, t->file, t->line, "a NUL byte: this is not a text file");
    }
    *nest += c == '(' || c == '[' || c == '{';
    *nest -= c == ')' || c == ']' || c == '}';
    if (*nest > NEST_MAX) {
        return fail(s, t->file, t->line, "brackets nested more than %d deep", NEST_MAX);
    }
    t->line += c == '\n';
    t->at++;
    return 0;
}

static int scan_text(struct scan *s, const char *text, size_t len, const char *file) {
    struct text t = {.at = text, .end = text + len, .file = file, .line = 1};
    bool line_start = true;
    int nest = 0;
    while (t.at < t.end) {
        int c = *t.at;
        int r = scan_token(s, &t, &nest, line_start);
        if (r) {
            return r;
        }
        line_start = c == '\n' || (line_start && (c == ' ' || c == '\t'));
    }
    return 0;
}

static int scan_file(struct scan *s, const char *path) {
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    int r = config_read_text(path, &text, &len, s->err);
    return r ? r : scan_text(s, text, len, path);
}

int config_scan(const char *text, size_t len, const char *name, const char *dir,
                struct config_error *err) {
    struct scan s = {.dir = dir, .err = err};
    return scan_text(&s, text, len, name);
}

/* SPDX-License-Identifier: MIT */
/* The table of commands is well formed, and every name leads to its line in any case of its
 * letters. */
#include "lib/wire/commands.h"

#include <ctype.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/fd.h"

TestSuite(commands, .timeout = 10);

static int find(const char *name) {
    return command_find(&(struct resp_arg){name, strlen(name)});
}

Test(commands, found_in_any_case) {
    for (int id = 0; id < COMMAND_COUNT_OF; id++) {
        char name[64];
        size_t len = strlen(commands[id].name);
        cr_assert_lt(len, sizeof(name));
        for (unsigned way = 0; way < 4; way++) {
            for (size_t i = 0; i <= len; i++) {
                char c = commands[id].name[i];
                name[i] = (way >> (i % 2)) & 1 ? (char)tolower((unsigned char)c) : c;
            }
            cr_assert_eq(find(name), id, "%s", name);
        }
    }
}

Test(commands, near_misses_are_not_found) {
    for (int id = 0; id < COMMAND_COUNT_OF; id++) {
        char name[64];
        size_t len = strlen(commands[id].name);
        for (size_t i = 0; i < len; i++) {
            strcpy(name, commands[id].name);
            name[i] ^= 0x20;
            if (!isalpha((unsigned char)name[i])) {
                cr_assert_eq(find(name), -1, "bit 5 of a dot is not its case");
            }
            name[i] = '~';
            cr_assert_eq(find(name), -1, "%s", name);
        }
        strcpy(name, commands[id].name);
        strcat(name, "Q"); /* there is an LPUSHX */
        cr_assert_eq(find(name), -1);
        cr_assert_eq(command_find(&(struct resp_arg){commands[id].name, len + 1}), -1);
    }
    cr_assert_eq(find(""), -1);
    cr_assert_eq(find("P"), -1);
    char big[10000];
    memset(big, 'A', sizeof(big));
    cr_assert_eq(command_find(&(struct resp_arg){big, sizeof(big)}), -1);
    for (unsigned c = 0; c < 65536; c++) {
        cr_assert_eq(command_find(&(struct resp_arg){(char *)&c, 1 + (c > 255)}), -1);
    }
}

Test(commands, names_are_unique_upper_case_and_without_spaces) {
    for (int id = 0; id < COMMAND_COUNT_OF; id++) {
        const char *name = commands[id].name;
        cr_assert(*name);
        for (const char *p = name; *p; p++) {
            cr_assert(isupper((unsigned char)*p) || *p == '.' || *p == '_', "%s", name);
        }
        for (int other = 0; other < id; other++) {
            cr_assert_str_neq(name, commands[other].name);
        }
    }
}

/* COMMAND LIST, the help and the documents show them in the table's order. */
Test(commands, a_group_stands_together_and_dotted_names_are_in_theirs) {
    for (int id = 0; id < COMMAND_COUNT_OF; id++) {
        const char *group = commands[id].group;
        for (int other = 0; other < id - 1; other++) {
            cr_assert(strcmp(commands[other].group, group) != 0 ||
                          strcmp(commands[id - 1].group, group) == 0,
                      "%s is apart from its group %s", commands[id].name, group);
        }
        const char *dot = strchr(commands[id].name, '.');
        if (dot) {
            size_t len = (size_t)(dot - commands[id].name);
            cr_assert(strlen(group) == len && strncasecmp(group, commands[id].name, len) == 0,
                      "%s is not of group %s", commands[id].name, group);
        }
    }
}

Test(commands, every_line_is_whole) {
    for (int id = 0; id < COMMAND_COUNT_OF; id++) {
        const struct command *c = &commands[id];
        cr_assert_neq(c->arity, 0, "%s", c->name);
        cr_assert(c->args && c->summary, "%s", c->name);
        size_t n = strlen(c->summary);
        cr_assert(n > 1 && c->summary[n - 1] == '.', "%s: a sentence", c->name);
        /* A command of an exact number of words has no optional ones, and the other way round. */
        bool optional = strpbrk(c->args, "[|") || strstr(c->args, "...");
        if (c->arity == 1) {
            cr_assert_str_eq(c->args, "", "%s", c->name);
        }
        if (c->arity < 0 && c->args[0]) {
            cr_assert(optional, "%s", c->name);
        }
    }
}

/* The protocol's text knows every command, and only commands that exist have a heading of their
 * own. */
Test(commands, the_protocol_document_has_them_all) {
    const char *source = getenv("HEARTH_SOURCE");
    if (!source) {
        cr_skip_test("HEARTH_SOURCE is not set: run by meson test");
    }
    char path[4096];
    snprintf(path, sizeof(path), "%s/lib/wire/PROTOCOL.md", source);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0, "%s", path);
    _cleanup_free_ char *text = NULL;
    size_t len;
    cr_assert_eq(fd_read_all(fd, 1 << 20, &text, &len), 0);
    for (int id = 0; id < COMMAND_COUNT_OF; id++) {
        const char *p = strstr(text, commands[id].name);
        size_t n = strlen(commands[id].name);
        while (p && (isalpha((unsigned char)p[n]) || isalpha((unsigned char)p[-1]))) {
            p = strstr(p + 1, commands[id].name);
        }
        cr_assert_not_null(p, "%s is not described", commands[id].name);
        if (strchr(commands[id].name, '.')) {
            char head[128];
            snprintf(head, sizeof(head), "\n#### %s\n\n    %s%s%s\n", commands[id].name,
                     commands[id].name, commands[id].args[0] ? " " : "", commands[id].args);
            cr_assert_not_null(strstr(text, head), "no section with this synopsis: %s", head);
        }
    }
    for (const char *p = text; (p = strstr(p, "\n#### ")); p += 6) {
        const char *name = p + 6;
        cr_assert_neq(command_find(&(struct resp_arg){name, strcspn(name, "\n")}), -1, "%.40s",
                      name);
    }
}

/* SPDX-License-Identifier: MIT */
/* hearth top on a terminal, with ncurses; without it (HEARTH_NCURSES is not defined) only a word about
 * that. The screen is drawn anew from the lines of top.c at each look, each key and each change of
 * size; ncurses sends only what differs.
 *
 * However it ends the terminal is given back: by q, SIGINT, SIGTERM or SIGHUP after the turn in
 * hand, and at the second signal at once, should the daemon not answer: the handler then restores
 * what it saved before, with nothing but what a handler may call.
 *
 * Fails: exit statuses, told after the terminal is itself again. */
#include "client/ctl/top.h"

#ifndef HEARTH_NCURSES

int top_screen(struct top *t, uint64_t interval_ms) {
    (void)interval_ms;
    return ctl_say(t->c, CTL_LOCAL, "built without ncurses: hearth top --once prints one look");
}

#else

#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "lib/base/clock.h"

static volatile sig_atomic_t told;
static struct termios before;

static void on_signal(int sig) {
    if (told++ == 0) {
        return;
    }
    static const char back[] = "\033[?1049l\033[?25h\033[0m\r\n";
    if (write(STDOUT_FILENO, back, sizeof(back) - 1) < 0) {
        told = 2; /* nothing more can be done */
    }
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    _exit(128 + sig);
}

static void catch_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction sa = {.sa_handler = on_signal};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        sigaction(signals[i], &sa, NULL);
    }
}

static void draw_line(void *arg, enum top_style style, const char *text) {
    static const struct {
        attr_t attributes;
        short pair;
    } styles[TOP_STYLES] = {
        [TOP_TITLE] = {A_BOLD, 0}, [TOP_HEAD] = {A_REVERSE, 0}, [TOP_GOOD] = {A_NORMAL, 1},
        [TOP_WARN] = {A_BOLD, 2},  [TOP_BAD] = {A_BOLD, 3},     [TOP_DIM] = {A_DIM, 0},
    };
    int *row = arg;
    attr_t a = styles[style].attributes;
    if (has_colors() && styles[style].pair) {
        a |= (attr_t)COLOR_PAIR(styles[style].pair);
    }
    attrset(a);
    if (style == TOP_HEAD) {
        mvhline(*row, 0, ' ', COLS);
    }
    mvaddstr(*row, 0, text);
    attrset(A_NORMAL);
    ++*row;
}

static void draw(const struct top *t, bool paused, uint64_t interval_ms) {
    int row = 0;
    erase();
    top_lines(t, COLS, LINES - 1, draw_line, &row);
    attrset(A_REVERSE);
    mvhline(LINES - 1, 0, ' ', COLS);
    mvprintw(LINES - 1, 0, "%.*s", COLS - 1,
             paused ? "PAUSED  q quit  s sort  r reverse  p go on"
                    : "q quit  s sort  r reverse  p pause  + - interval");
    if (COLS > 70) {
        mvprintw(LINES - 1, COLS - 14, "every %s", table_micros((int64_t)interval_ms * 1000));
    }
    attrset(A_NORMAL);
    refresh();
}

/* What a key does; false: it is the end. */
static bool press(struct top *t, int key, bool *paused, uint64_t *interval_ms) {
    switch (key) {
    case 'q':
    case 'Q':
        return false;
    case 's':
        t->sort = (t->sort + 1) % TOP_SORTS;
        break;
    case 'r':
        t->reverse = !t->reverse;
        break;
    case 'p':
    case ' ':
        *paused = !*paused;
        break;
    case '+':
        *interval_ms = *interval_ms < 60000 ? *interval_ms * 2 : *interval_ms;
        break;
    case '-':
        *interval_ms = *interval_ms > 200 ? *interval_ms / 2 : *interval_ms;
        break;
    default:
        break;
    }
    return true;
}

static int run(struct top *t, uint64_t interval_ms) {
    bool paused = false;
    uint64_t next = clock_now() + interval_ms * NS_PER_MS;
    for (;;) {
        draw(t, paused, interval_ms);
        uint64_t now = clock_now();
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        int wait = paused ? -1 : next > now ? (int)((next - now) / NS_PER_MS) + 1 : 0;
        int r = poll(&p, 1, wait);
        if (told || (r > 0 && (p.revents & (POLLERR | POLLHUP)))) {
            return told ? CTL_INTERRUPTED : CTL_OK;
        }
        for (int key = getch(); key != ERR; key = getch()) {
            if (!press(t, key, &paused, &interval_ms)) {
                return CTL_OK;
            }
            next = key == KEY_RESIZE ? next : 0; /* look at once */
        }
        if (!paused && clock_now() >= next) {
            int status = top_read(t);
            if (status != CTL_OK) {
                return status;
            }
            next = clock_now() + interval_ms * NS_PER_MS;
        }
    }
}

int top_screen(struct top *t, uint64_t interval_ms) {
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return ctl_say(t->c, CTL_LOCAL, "not a terminal: hearth top --once prints one look");
    }
    if (tcgetattr(STDIN_FILENO, &before) < 0) {
        return ctl_say(t->c, CTL_LOCAL, "cannot ask the terminal: %s", strerror(errno));
    }
    const char *term = getenv("TERM");
    SCREEN *screen = newterm(NULL, stdout, stdin);
    if (!screen) {
        return ctl_say(t->c, CTL_LOCAL, "ncurses does not know the terminal %s: see --once",
                       term ? term : "(TERM is not set)");
    }
    catch_signals();
    t->leave = endwin;
    cbreak();
    noecho();
    nodelay(stdscr, TRUE);
    keypad(stdscr, TRUE);
    curs_set(0);
    if (has_colors()) {
        start_color();
        use_default_colors();
        init_pair(1, COLOR_GREEN, -1);
        init_pair(2, COLOR_YELLOW, -1);
        init_pair(3, COLOR_RED, -1);
    }
    int status = run(t, interval_ms);
    if (!isendwin()) {
        endwin();
    }
    delscreen(screen);
    return status;
}

#endif

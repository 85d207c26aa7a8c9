/* SPDX-License-Identifier: MIT */
/* What TASK.SUBMIT, CALL, MSUBMIT and MAP have in common: where the task goes, its arguments and limits,
 * and the refusals. */
#pragma once

#include "daemon/serve/conn.h"

struct submit_words {
    struct pool *pool;
    struct task_spec spec; /* all but the payload; its args are in serve.args */
    struct policy policy;
    bool owned;
    bool last;                                   /* its group is closed behind it */
    struct policy_after after[POLICY_AFTER_MAX]; /* what policy.after points at */
    bool stream;                                 /* what it tells is pushed to the submitter */
    enum submit_unique { UNIQUE_REJECT, UNIQUE_ATTACH, UNIQUE_REPLACE, UNIQUE_KEEP } unique;
};

/* Reads pool, handler (argv[1], argv[2]) and the options from argv[first] on. True, or false with
 * the refusal replied. */
bool submit_parse(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t first,
                  struct submit_words *ret);
/* What tasks_submit() wants to hear of it. */
static inline const struct policy *submit_policy(const struct submit_words *w) {
    return w->policy.set ? &w->policy : NULL;
}
/* Queues it. As tasks_submit(), and -EDQUOT. */
int submit_new(struct conn *c, const struct submit_words *w, struct task_ref *ret);
/* Is it one that submit_task() has found, and not queued? */
static inline bool task_ref_is_older(const struct task_ref *ref) {
    return ref->word == 0;
}
/* Queues it, or with UNIQUE does as was asked when there is one already. 0 with *ret set; *ret_new:
 * it was queued, and is not an older one. As tasks_submit(); -EEXIST: refused, *ret is the older one. */
int submit_task(struct conn *c, const struct submit_words *w, struct task_ref *ret, bool *ret_new);
/* After the reply: an older one is another connection's, and its end is pushed here, too, if that is wanted of this one's. */
void submit_attached(struct conn *c, const struct task_ref *ref);
/* After the reply: with STREAM, pushes to c what the task tells. */
void submit_follow(struct conn *c, const struct submit_words *w, uint32_t idx);
/* All of the command's tasks have been queued. */
void submit_done(struct conn *c, const struct submit_words *w);
/* Replies to what tasks_submit() returned (not 0, not -EAGAIN). */
void submit_refused(struct conn *c, const struct pool *p, int r);

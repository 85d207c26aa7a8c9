// SPDX-License-Identifier: MIT
/* Handlers for program.py: what an npm package does, and what a handler may do wrong. */
'use strict';
let marked = null;
try {
  marked = require('marked');
} catch (e) {
  if (process.env.PROGRAM_MARKED) throw e;
}

module.exports = {
  render: (payload) => marked.parse(payload.toString()),
  echo: (payload) => payload,
  words: (payload, args) => ({text: payload.toString(), args}),
  fail: () => { throw new RangeError('too far'); },
  who: () => String(process.pid),
  rest: (payload, [ms]) => new Promise((resolve) => setTimeout(() => resolve('rested'), Number(ms))),
  tell: async (payload, args, task) => {
    await task.emit('a\0b');
    await task.progress(1, 2, 'half');
    return 'told';
  },
  stopped: (payload, args, task) => new Promise((resolve, reject) => {
    task.signal.addEventListener('abort', () => reject(task.signal.reason));
  }),
};

#!/usr/bin/env node
// SPDX-License-Identifier: MIT
/* JavaScript functions as handlers of a Hearth pool. Needs nothing but Node.js (16 or later).
 *
 * In hearthd.conf:
 *
 *     pools = ( { name = "render"; workers = 2;
 *                 program = [ "/usr/bin/node", "PATH/hearth-worker.js", "/srv/app/handlers.js" ]; } );
 *
 * The module's exported functions are the handlers. One is called with the payload (a Buffer), the task's arguments (an
 * array of strings) and the task: { id, handler, attempt, deadline (ms since 1970, or null), uid, signal }. signal is an
 * AbortSignal that fires when the task is cancelled or over its time limit; await task.emit(data) and
 * task.progress(done, total, text) tell whoever follows the task. It may be async. What it returns becomes the
 * result: a Buffer or Uint8Array as it is, a string in UTF-8, undefined and null as nothing, anything else as JSON. What it
 * throws ends the task as failed: the message is the cause, a number in `errno` or `code` the code, the stack the log.
 *
 * The shipped systemd unit lets nobody make memory executable, as Node's compiler must: write "node", "--jitless" in the
 * program, or set MemoryDenyWriteExecute=no (systemctl edit hearthd.service).
 *
 * --capacity N (before the module): up to N tasks at once, for handlers that mostly wait; they count towards the
 * daemon's limit max_joined.
 * --join SOCKET POOL (before the module): outside of hearthd, joins the pool by itself; the pool's worker_users says who may.
 */
'use strict';
const net = require('net');
const path = require('path');

const LOG_MAX = 64 * 1024;

/* ---- RESP3, as much of it as a worker needs ---- */

let end_; // of what parse() missed last, as far as it could tell

/* One value from `at` on: [value, next], or null when it is not all there yet. */
function parse(data, at) {
  end_ = 0;
  const end = data.indexOf('\r\n', at);
  if (end < 0) return null;
  const kind = data[at], line = data.toString('latin1', at + 1, end), n = Number(line);
  let next = end + 2;
  switch (kind) {
    case 0x24: // $
      if (n < 0) return [null, next];
      if (data.length >= next + n + 2) return [data.subarray(next, next + n), next + n + 2];
      end_ = next + n + 2;
      return null;
    case 0x2a: case 0x3e: case 0x25: { // * > %
      if (n < 0) return [null, next];
      const list = [];
      list.push_ = kind === 0x3e;
      for (let i = 0; i < (kind === 0x25 ? 2 * n : n); i++) {
        const one = parse(data, next);
        if (one === null) return null;
        list.push(one[0]);
        next = one[1];
      }
      return [list, next];
    }
    case 0x3a: return [n, next]; // :
    case 0x5f: return [null, next]; // _
    case 0x2d: return [new Error(line), next]; // -
    default: return [line, next]; // + and the rest
  }
}

class Connection {
  constructor(socket, onPush) {
    this.socket = socket;
    this.parts = [];
    this.size = 0;
    this.need = 0; // bytes below which it is of no use to look
    this.waiting = []; // for answers, in order
    socket.on('data', (chunk) => {
      this.parts.push(chunk);
      this.size += chunk.length;
      if (this.size < this.need) return;
      let data = this.parts.length === 1 ? this.parts[0] : Buffer.concat(this.parts), at = 0, one = null;
      while (at < data.length && (one = parse(data, at)) !== null) {
        at = one[1];
        if (Array.isArray(one[0]) && one[0].push_) onPush(one[0]);
        else this.waiting.shift()(one[0]);
      }
      data = data.subarray(at);
      this.parts = data.length ? [data] : [];
      this.size = data.length;
      this.need = data.length && end_ > at ? end_ - at : 0;
    });
  }

  call(...words) {
    const out = ['*' + words.length + '\r\n'];
    const parts = [];
    for (const w of words) {
      const b = Buffer.isBuffer(w) ? w : Buffer.from(w);
      out.push('$' + b.length + '\r\n');
      parts.push(Buffer.from(out.join('')), b);
      out.length = 0;
      out.push('\r\n');
    }
    parts.push(Buffer.from('\r\n'));
    this.socket.write(Buffer.concat(parts));
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

/* ---- tasks ---- */

function asBuffer(result) {
  if (result === undefined || result === null) return Buffer.alloc(0);
  if (Buffer.isBuffer(result)) return result;
  if (result instanceof Uint8Array) return Buffer.from(result.buffer, result.byteOffset, result.byteLength);
  return Buffer.from(typeof result === 'string' ? result : JSON.stringify(result));
}

function failure(id, e) {
  const error = e instanceof Error ? e : new Error(String(e));
  const code = [error.errno, error.code].find((n) => Number.isInteger(n) && n !== 0 && Math.abs(n) < 2 ** 31) || 1;
  const log = Buffer.from(error.stack || String(error));
  return ['WORKER.FAIL', id, String(code), error.name + ': ' + error.message, 'LOG',
    log.subarray(Math.max(0, log.length - LOG_MAX))];
}

class Worker {
  constructor(socket, handlers, capacity) {
    this.handlers = handlers;
    this.capacity = capacity;
    this.running = new Map(); // id -> AbortController
    this.asking = false;
    this.leaving = false;
    this.socket = socket;
    this.connection = new Connection(socket, (push) => {
      if (push[0].toString() !== 'worker.cancel') return;
      setImmediate(() => { // the task itself may have come just before it
        const controller = this.running.get(push[1].toString());
        if (controller) controller.abort(new Error(push[2].toString()));
      });
    });
  }

  check(answer) {
    if (answer instanceof Error) {
      console.error('hearth-worker.js: ' + answer.message);
      process.exit(1);
    }
    return answer;
  }

  async join(pool) {
    this.check(await this.connection.call('HELLO', '3'));
    this.check(await this.connection.call('WORKER.JOIN', pool, 'CAPACITY', String(this.capacity), 'CANCEL', 'PUSH',
      'HANDLERS', ...this.handlers.keys()));
    this.ask(['WORKER.NEXT']);
  }

  /* Says something whose answer is the next task. A NEXT that waits is answered with null when more is said. */
  async ask(words) {
    this.asking = true;
    const mine = this.turn = {};
    const task = this.check(await this.connection.call(...words));
    if (this.turn === mine) this.asking = false;
    if (Array.isArray(task) && task.length === 0) {
      this.leaving = true;
      if (this.running.size === 0) process.exit(0);
    } else if (task) {
      this.run(task);
      if (this.running.size < this.capacity && !this.asking) this.ask(['WORKER.NEXT']);
    } else if (!this.asking && !this.leaving && this.running.size < this.capacity) {
      this.ask(['WORKER.NEXT']); // something was told meanwhile
    }
  }

  async tell(...words) {
    const answer = await this.connection.call(...words);
    if (answer instanceof Error) throw answer;
  }

  async run(words) {
    const id = words[0].toString(), name = words[1].toString(), controller = new AbortController();
    const task = {id, handler: name, attempt: words[4], deadline: words[5] ? Date.now() + words[5] : null, uid: words[6],
      signal: controller.signal,
      emit: (data) => this.tell('WORKER.EMIT', id, asBuffer(data)),
      progress: (done, total = 0, text = '') => this.tell('WORKER.PROGRESS', id, String(done), String(total), text)};
    let answer;
    this.running.set(id, controller);
    try {
      const result = await this.handlers.get(name)(words[2], words[3].map(String), task);
      answer = ['WORKER.DONE', id, asBuffer(result)];
    } catch (e) {
      answer = failure(id, e);
    }
    this.running.delete(id);
    if (!this.leaving) {
      this.ask([...answer, 'NEXT']);
    } else {
      this.check(await this.connection.call(...answer));
      if (this.running.size === 0) process.exit(0);
    }
  }
}

function load(file) {
  const module = require(file.startsWith('.') || file.startsWith('/') ? path.resolve(file) : file);
  const found = new Map(Object.entries(module).filter(([, f]) => typeof f === 'function'));
  if (found.size === 0) throw new Error('no handlers in ' + file);
  return found;
}

function main() {
  const words = process.argv.slice(2);
  let capacity = 1, target = null, pool = process.env.HEARTH_POOL;
  while (words.length && words[0].startsWith('--')) {
    const option = words.shift();
    if (option === '--capacity') capacity = Number(words.shift());
    else if (option === '--join') { target = {path: words.shift()}; pool = words.shift(); } else words.length = 0;
  }
  if (!target && process.env.HEARTH_WORKER_FD) target = {fd: Number(process.env.HEARTH_WORKER_FD), readable: true, writable: true};
  if (words.length !== 1 || !target || !pool || !(capacity >= 1)) {
    console.error('usage: hearth-worker.js [--capacity N] [--join SOCKET POOL] MODULE\n' +
      'Without --join it is started by hearthd, as the program of a pool.');
    process.exit(2);
  }
  const handlers = load(words[0]);
  const socket = target.path ? net.createConnection(target) : new net.Socket(target);
  socket.on('error', (e) => { console.error('hearth-worker.js: ' + e.message); process.exit(1); });
  socket.on('close', () => process.exit(0)); // the daemon has hung up
  new Worker(socket, handlers, capacity).join(pool);
}

main();

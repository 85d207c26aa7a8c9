// SPDX-License-Identifier: MIT
// ioredis and node-redis against the daemon, as their users have them: run by node.py. Usage: node node_clients.js SOCKET.
// One line of TAP a test; the plan is printed last.
"use strict";
const assert = require("assert");
const Redis = require("ioredis");
const { createClient, commandOptions, RESP_TYPES, ErrorReply } = require("redis");

const path = process.argv[2];
const LIMIT = 60000;
const DEEP = 10000;
const BYTES = Buffer.concat([Buffer.from(Array.from({ length: 256 }, (_, i) => i)), Buffer.from("\r\n$5\r\n\0")]);
const SLOW_ECHO = ["shell", "run", BYTES, "ARG", "sh", "ARG", "-c", "ARG", "sleep 0.1; cat"];
let n = 0;
let bad = 0;

async function test(name, run) {
    n++;
    let timer;
    const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error("it takes too long")), LIMIT); });
    try {
        await Promise.race([run(), late]);
        console.log(`ok ${n} - ${name}`);
    } catch (e) {
        bad++;
        console.log(`not ok ${n} - ${name}`);
        console.log(String(e.stack || e).replace(/^/gm, "# "));
    }
    clearTimeout(timer);
}

const body = (message) => message.subarray(message.indexOf(10) + 1);
const head = (message) => message.subarray(0, message.indexOf(10)).toString().split(" ");

// ---- ioredis (RESP2) ----

async function withIoredis(run, options = {}) {
    const r = new Redis({ path, ...options });
    try {
        await run(r);
    } finally {
        r.disconnect();
    }
}

async function ioredis() {
    await test("ioredis: connects, calls", () => withIoredis(async (r) => {
        assert.strictEqual(await r.ping(), "PONG");
        assert.deepStrictEqual(await r.callBuffer("TASK.CALL", "demo", "echo", BYTES), BYTES);
        assert.strictEqual(await r.call("TASK.CALL", "demo", "echo", ""), "");
        assert.match(await r.info(), /redis_mode:standalone/);
        assert.match(await r.client("LIST"), /name=me/);
    }, { connectionName: "me" }));
    await test("ioredis: errors", () => withIoredis(async (r) => {
        await assert.rejects(r.call("TASK.CALL", "demo", "fail", "", "ARG", "why"), { name: "ReplyError", message: "FAILED 1 why" });
        await assert.rejects(r.call("TASK.CALL", "none", "x", ""), { name: "ReplyError", message: /^NOPOOL/ });
        await assert.rejects(r.zcard("key"), { name: "ReplyError", message: /unknown command/ });
        await assert.rejects(r.call("TASK.CALL", "demo", "crash", "", "ARG", "9"), { name: "ReplyError", message: /^LOST signal 9/ });
    }));
    await test("ioredis: pub/sub, before and after the end", () => withIoredis(async (r) => withIoredis(async (sub) => {
        const got = [];
        let arrived = () => {};
        sub.on("messageBuffer", (channel, message) => { got.push([channel.toString(), message]); arrived(); });
        const some = async (k) => { while (got.length < k) { await new Promise((yes) => { arrived = yes; }); } };
        const mine = await r.client("ID");
        await sub.subscribe(`tasks:${mine}`);
        const id = await r.call("TASK.SUBMIT", ...SLOW_ECHO);
        await sub.subscribe(`task:${id}`);
        await some(2);
        assert.deepStrictEqual(got.map(([c]) => c).sort(), [`task:${id}`, `tasks:${mine}`].sort());
        for (const [, m] of got) {
            assert.deepStrictEqual(head(m), [id, "done", ""]);
            assert.deepStrictEqual(body(m), BYTES);
        }
        got.length = 0;
        const late = await r.call("TASK.SUBMIT", "demo", "echo", "x");
        await some(1);
        await sub.subscribe(`task:${late}`);
        await some(2);
        assert.deepStrictEqual(got.map(([c, m]) => [c, body(m).toString()]), [[`tasks:${mine}`, "x"], [`task:${late}`, "x"]]);
        await sub.unsubscribe();
        assert.strictEqual(await sub.ping(), "PONG");
    })));
    await test("ioredis: a pipeline of 10,000; auto-pipelining", () => withIoredis(async (r) => {
        const pipe = r.pipeline();
        for (let i = 0; i < DEEP; i++) {
            pipe.call("TASK.CALL", "demo", "echo", String(i));
        }
        assert.deepStrictEqual(await pipe.exec(), Array.from({ length: DEEP }, (_, i) => [null, String(i)]));
        const all = await Promise.all(Array.from({ length: 1000 }, (_, i) => r.call("TASK.CALL", "demo", "echo", String(i))));
        assert.deepStrictEqual(all, Array.from({ length: 1000 }, (_, i) => String(i)));
    }, { enableAutoPipelining: true }));
    await test("ioredis: WAIT, and the library's time-out", () => withIoredis(async (r) => {
        const id = await r.call("TASK.SUBMIT", "demo", "sleep", "", "ARG", "60000");
        await assert.rejects(r.call("TASK.WAIT", id), { message: "Command timed out" });
        await withIoredis(async (other) => {
            assert.strictEqual(await other.call("TASK.WAIT", id, "TIMEOUT", "1"), null);
            assert.strictEqual(await other.call("TASK.CANCEL", id), 1);
            assert.strictEqual((await other.call("TASK.WAIT", id))[1], "cancelled");
        });
        assert.strictEqual(await r.ping(), "PONG");
    }, { commandTimeout: 200 }));
    await test("ioredis: reconnects", () => withIoredis(async (r) => withIoredis(async (other) => {
        const id = await r.client("ID");
        const again = new Promise((yes) => { r.once("ready", yes); });
        assert.strictEqual(await other.client("KILL", "ID", id), 1);
        await again;
        assert.notStrictEqual(await r.client("ID"), id);
        assert.strictEqual(await r.call("TASK.CALL", "demo", "echo", "x"), "x");
    })));
}

// ---- node-redis, RESP2 and RESP3 ----

async function withNodeRedis(RESP, run, options = {}) {
    const r = createClient({ socket: { path }, RESP, ...options });
    r.on("error", () => {});
    await r.connect();
    try {
        await run(r);
    } finally {
        r.destroy();
    }
}

async function nodeRedis(RESP) {
    const name = `node-redis, RESP${RESP}`;
    const open = (run, options) => withNodeRedis(RESP, run, options);
    const buffers = (r) => r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    await test(`${name}: connects, calls`, () => open(async (r) => {
        assert.strictEqual(await r.ping(), "PONG");
        assert.deepStrictEqual(await buffers(r).sendCommand(["TASK.CALL", "demo", "echo", BYTES]), BYTES);
        assert.match(await r.info(), /redis_mode:standalone/);
        assert.strictEqual((await r.clientInfo()).name, "me");
        assert.strictEqual(await r.clientGetName(), "me");
        assert.strictEqual((await r.configGet("save")).save, "");
        const status = await r.sendCommand(["POOL.INFO", "demo"]);
        assert.strictEqual(RESP === 3 ? status.name : status[1], "demo");
    }, { name: "me" }));
    await test(`${name}: errors`, () => open(async (r) => {
        await assert.rejects(r.sendCommand(["TASK.CALL", "demo", "fail", "", "ARG", "why"]), (e) => e instanceof ErrorReply && e.message === "FAILED 1 why");
        await assert.rejects(r.zCard("key"), (e) => e instanceof ErrorReply && /unknown command/.test(e.message));
    }));
    await test(`${name}: pub/sub, before and after the end`, () => open(async (r) => open(async (sub) => {
        const got = [];
        let arrived = () => {};
        const heard = (message, channel) => { got.push([channel.toString(), message]); arrived(); };
        const some = async (k) => { while (got.length < k) { await new Promise((yes) => { arrived = yes; }); } };
        const mine = await r.clientId();
        await sub.subscribe(`tasks:${mine}`, heard, true);
        const id = await r.sendCommand(["TASK.SUBMIT", ...SLOW_ECHO]);
        await sub.subscribe(`task:${id}`, heard, true);
        await some(2);
        for (const [, m] of got) {
            assert.deepStrictEqual(head(m), [id, "done", ""]);
            assert.deepStrictEqual(body(m), BYTES);
        }
        got.length = 0;
        const late = await r.sendCommand(["TASK.SUBMIT", "demo", "echo", "x"]);
        await some(1);
        await sub.subscribe(`task:${late}`, heard, true);
        await some(2);
        assert.deepStrictEqual(got.map(([, m]) => body(m).toString()), ["x", "x"]);
        await sub.unsubscribe();
        assert.strictEqual(String(await sub.ping()), "PONG");
    })));
    await test(`${name}: 10,000 in flight`, () => open(async (r) => {
        const all = await Promise.all(Array.from({ length: DEEP }, (_, i) => r.sendCommand(["TASK.CALL", "demo", "echo", String(i)])));
        assert.deepStrictEqual(all, Array.from({ length: DEEP }, (_, i) => String(i)));
    }));
    await test(`${name}: WAIT`, () => open(async (r) => {
        const ids = [await r.sendCommand(["TASK.SUBMIT", "demo", "sleep", "", "ARG", "60000"]), await r.sendCommand(["TASK.SUBMIT", "demo", "echo", "x"])];
        assert.deepStrictEqual(await r.sendCommand(["TASK.WAIT", ...ids]), [ids[1], "done", "x", ""]);
        assert.strictEqual(await r.sendCommand(["TASK.WAIT", ids[0], "TIMEOUT", "1"]), null);
        assert.strictEqual(await r.sendCommand(["TASK.CANCEL", ids[0]]), 1);
    }));
    await test(`${name}: pushes nobody listens for do no harm`, () => open(async (r) => {
        if (RESP === 3) {
            assert.strictEqual(await r.sendCommand(["TASK.NOTIFY", "ON"]), "OK");
        }
        const ids = await Promise.all(Array.from({ length: 100 }, () => r.sendCommand(["TASK.SUBMIT", "demo", "echo", "x"])));
        for (const id of ids) {
            assert.strictEqual((await r.sendCommand(["TASK.WAIT", id]))[2], "x");
        }
        assert.strictEqual(await r.ping(), "PONG");
    }));
    await test(`${name}: reconnects`, () => open(async (r) => open(async (other) => {
        const id = await r.clientId();
        const again = new Promise((yes) => { r.once("ready", yes); });
        await other.sendCommand(["CLIENT", "KILL", "ID", String(id)]);
        await again;
        assert.notStrictEqual(await r.clientId(), id);
        assert.strictEqual(await r.sendCommand(["TASK.CALL", "demo", "echo", "x"]), "x");
    })));
}

(async () => {
    await ioredis();
    await nodeRedis(2);
    await nodeRedis(3);
    console.log(`1..${n}`);
    process.exit(bad ? 1 : 0);
})();

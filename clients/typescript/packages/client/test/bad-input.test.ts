/**
 * Bad input, from programs of their own: each has to end by itself with 0, without an unhandled
 * rejection, and with errors that say what is wrong.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { TestCluster } from "@quorate/testing";
import type { Tried } from "./bad/report.js";
import { startSecured, type Secured } from "./secured.js";

const TIMEOUT_MS = 120_000;

interface Ran {
  readonly code: number | null;
  readonly tried: readonly Tried[];
  readonly errors: string;
  readonly tookMs: number;
}

async function run(name: string, args: string[], environment: Record<string, string>, heard: (tried: Tried, child: { stdin: NodeJS.WritableStream }) => void = () => {}): Promise<Ran> {
  const program = fileURLToPath(new URL(`./bad/${name}.js`, import.meta.url));
  const env = { ...process.env, ...environment };
  delete env["QUORATE_TOKEN"];
  const child = spawn(process.execPath, ["--unhandled-rejections=strict", program, ...args], { env, stdio: ["pipe", "pipe", "pipe"] });
  const begun = performance.now();
  const overdue = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  child.stdin.on("error", () => {});
  const tried: Tried[] = [];
  let errors = "";
  createInterface({ input: child.stdout }).on("line", (line) => {
    const one = JSON.parse(line) as Tried;
    tried.push(one);
    heard(one, child);
  });
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(overdue);
  return { code, tried, errors, tookMs: performance.now() - begun };
}

function of(ran: Ran, what: string): Tried {
  const tried = ran.tried.find((one) => one.what === what);
  assert.ok(tried !== undefined, `${what} is missing: ${text(ran)}`);
  return tried;
}

function endsWell(ran: Ran, errors: RegExp = /^$/): void {
  assert.equal(ran.code, 0, text(ran));
  assert.match(ran.errors, errors, text(ran));
}

const text = (ran: Ran) => `exit code ${ran.code}\n${ran.tried.map((one) => JSON.stringify(one)).join("\n")}\n${ran.errors}`;

describe("bad input", { timeout: 600_000 }, () => {
  let cluster: TestCluster | undefined;
  let secured!: Secured;
  before(async () => {
    secured = await startSecured();
    cluster = await TestCluster.start();
  });
  after(async () => {
    // What did not start has nothing to stop.
    await cluster?.stop();
    await secured?.stop();
  });
  const endpoints = () => ({ QUORATE_ENDPOINTS: cluster?.endpoints.join(",") ?? "" });

  it("a server that is down: each call says which and what to check, and nothing happened", async () => {
    const ran = await run("server-down", [], { QUORATE_ENDPOINTS: "127.0.0.1:1,127.0.0.1:2" });
    endsWell(ran);
    assert.equal(ran.tried.length, 20);
    for (const tried of ran.tried.slice(0, -1)) {
      assert.equal(tried.error, "UnavailableError", JSON.stringify(tried));
      assert.equal(tried.reason, "CONNECT_FAILED", JSON.stringify(tried));
      assert.match(tried.message ?? "", /can't connect to 127\.0\.0\.1:[12]: .*ECONNREFUSED/);
      assert.match(tried.message ?? "", /check that a majority of the nodes is running and that the endpoints are right/);
    }
    assert.equal(of(ran, "after close").error, "ClosedError");
  });

  it("no token, a wrong one, one with too few rights, a good one, and certificates", async () => {
    const tls = { caFile: secured.caFile };
    const as = (options: object) => run("wrong-token", [JSON.stringify(options)], { QUORATE_ENDPOINTS: secured.endpoint });
    for (const options of [{ tls }, { tls, token: `qt_${"0".repeat(64)}` }, { tls, token: "rubbish" }]) {
      const ran = await as(options);
      endsWell(ran, /./); // onError was told of the consumer
      for (const tried of ran.tried) {
        assert.deepEqual([tried.error, tried.reason], ["DeniedError", "UNAUTHENTICATED"], JSON.stringify(tried));
        assert.match(tried.message ?? "", /token|certificate/);
      }
      assert.ok(ran.tookMs < 30_000, `refusals are answers, and not retried: ${ran.tookMs} ms`);
    }
    for (const options of [{ tls, token: secured.readerToken }, { tls: { ...tls, certFile: secured.certFile, keyFile: secured.keyFile } }]) {
      const ran = await as(options);
      assert.equal(ran.code, 0, text(ran));
      for (const what of ["kv get", "kv watch"]) assert.equal(of(ran, what).error, undefined, text(ran));
      for (const tried of ran.tried) {
        if (["kv get", "kv watch", "queue subscribe"].includes(tried.what)) continue;
        assert.deepEqual([tried.error, tried.reason], ["DeniedError", "FORBIDDEN"], JSON.stringify(tried));
      }
    }
    const admin = await as({ tls, token: secured.adminToken });
    // Node.js says that an address is no name for TLS, once; the certificate is checked all the same.
    endsWell(admin, /^(\(node:\d+\) \[DEP0123\][^\n]*\n[^\n]*\n)?$/);
    for (const tried of admin.tried) assert.equal(tried.error, undefined, JSON.stringify(tried));
  });

  it("TLS where there is none, none where there is, and an authority that is not believed", async () => {
    const plain = await run("wrong-token", [JSON.stringify({ requestTimeoutMs: 400, token: secured.adminToken })], { QUORATE_ENDPOINTS: secured.endpoint });
    assert.equal(plain.code, 0, text(plain));
    const unbelieved = await run("wrong-token", [JSON.stringify({ requestTimeoutMs: 400, tls: true })], { QUORATE_ENDPOINTS: secured.endpoint });
    assert.equal(unbelieved.code, 0, text(unbelieved));
    const encrypted = await run("wrong-token", [JSON.stringify({ requestTimeoutMs: 400, tls: { caFile: secured.caFile } })], endpoints());
    assert.equal(encrypted.code, 0, text(encrypted));
    for (const ran of [plain, unbelieved, encrypted]) {
      for (const tried of ran.tried) assert.equal(tried.error, "UnavailableError", JSON.stringify(tried));
    }
    assert.match(of(unbelieved, "kv get").message ?? "", /certificate/);
  });

  it("a payload that isn't JSON: an error that names it, in each service, and the rest goes on", async () => {
    const ran = await run("not-json", [], endpoints());
    endsWell(ran);
    const names: Record<string, RegExp> = {
      "kv get": /the value of key "k"/,
      "kv getPattern": /the value of key "k"/,
      "txn": /the value of key "k"/,
      "watch": /the value of key "k"/,
      "cache get": /the value of key "c" of the cache/,
      "cache getOrBuild": /the value of key "c" of the cache/,
      "bus": /a message to channel "b"/,
      "job": /job \d+ of queue "q"/,
    };
    for (const [what, name] of Object.entries(names)) {
      const tried = of(ran, what);
      assert.deepEqual([tried.error, tried.reason], ["PayloadError", "BAD_PAYLOAD"], text(ran));
      assert.match(tried.message ?? "", name);
      assert.match(tried.message ?? "", /is not application\/json \(3 bytes\).*read it with the codec that it was written with/);
    }
    assert.equal(of(ran, "kv get as bytes").value, 3);
    assert.equal(of(ran, "the message behind it").value, "fine");
  });

  it("consumers and subscribers that throw, in each way: told on the error output, and the rest goes on", async () => {
    const ran = await run("consumers", [], endpoints());
    assert.equal(ran.code, 0, text(ran));
    assert.deepEqual(of(ran, "jobs").value, { delivered: 7, dead: 7 });
    assert.equal(of(ran, "messages").value, 7);
    assert.equal(of(ran, "request").error, "NoReplyError");
    assert.equal(of(ran, "onError throws").value, "survived");
    assert.equal(of(ran, "onError rejects").value, "survived");
    assert.equal(of(ran, "unawaited").value, 1, "what failed was said again");
    for (const told of [/the handler of job \d+ of queue "jobs" failed: Error: sync error/, /Error: async error/, /failed: a text/, /could not be settled: Error: the ack failed/, /a subscriber of "ways" failed at a message to ways: Error: sync error/]) {
      assert.match(ran.errors, told);
    }
  });

  it("a program that closes its client with everything open ends at once", async () => {
    const ran = await run("left-open", [], endpoints());
    endsWell(ran);
    assert.equal(of(ran, "watch").value, true);
    assert.equal(of(ran, "subscription").value, true);
    assert.equal(of(ran, "lock release").value, false);
    assert.ok(ran.tookMs < 30_000, `${ran.tookMs} ms`);
  });

  it("a program that never uses its clients, or has closed them, ends", async () => {
    endsWell(await run("unused", [], endpoints()));
  });

  // The last one: it leaves no cluster.
  it("a whole cluster that dies under a program: the lock is lost, and it can close and end", async () => {
    const ran = await run("left-open", ["wait"], endpoints(), (tried, child) => {
      if (tried.what !== "ready") return;
      void Promise.all([1, 2, 3].map((id) => cluster?.kill(id))).then(() => child.stdin.write("go\n"));
    });
    endsWell(ran);
    assert.match(of(ran, "kv set").error ?? "", /UnavailableError|IndeterminateError/);
    assert.equal(of(ran, "lock").error, "LockLostError");
    assert.equal(of(ran, "closed").what, "closed");
    assert.ok(ran.tookMs < 60_000, `${ran.tookMs} ms`);
  });
});

/** Bad input: clear errors, nothing that nobody handles, and processes that end by themselves. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { clusterForFile } from "./cluster.js";
import { Program } from "./process.js";

const own = clusterForFile();

/** What a program has written; it has to end by itself, in order and soon, without a word on its errors. */
async function linesOf(t: TestContext, name: string, endpoints: string): Promise<string[]> {
  const program = new Program(t, "./app/faulty.js", [name, endpoints], {});
  // The framework's cache keeps a process for as long as its copies live: a minute.
  assert.equal(await program.exit(90_000), 0, program.text);
  assert.equal(program.lines.at(-1), "ends", program.text);
  assert.deepEqual(program.errors, []);
  return program.lines;
}

function has(lines: readonly string[], ...patterns: RegExp[]): void {
  for (const pattern of patterns) {
    assert.ok(lines.some((line) => pattern.test(line)), `nothing is like ${pattern}:\n${lines.join("\n")}`);
  }
}

test("the server is down", async (t) => {
  const lines = await linesOf(t, "down", "127.0.0.1:9");
  const calls = ["get", "set", "publish", "subscribe", "produce", "consume", "lock", "cache"];
  has(lines, ...calls.map((call) => new RegExp(`^${call}: UnavailableError: .*127\\.0\\.0\\.1:9.*`)));
  has(lines, /^told the framework: .*publishing message to channel subject/);
});

test("types that do not match", async (t) => {
  const lines = await linesOf(t, "types", own.cluster.endpoints.join(","));
  has(
    lines,
    /^set: .*id/,
    /^get: PayloadError: the value of key "a" is not of the type it is read as: .*text/,
    /^get of a counter: PayloadError: key "n" is a counter; read it by incrementing it by 0/,
    /^increment of a value: InvalidArgumentError: .*decimal/,
    /^produce: .*id/,
    /^priority: InvalidArgumentError: .*priority is 1000; it must be a whole number from 0 to 255/,
    /^heard fine$/,
    /^told a subscriber missed it: PayloadError: a message to channel "b" is not of the type/,
    /^told a consumer could not read a job; .*: PayloadError: job \d+ of queue "q" is not of the type/,
  );
  assert.ok(!lines.some((line) => line.startsWith("handled")));
});

test("consumers and subscribers that throw", async (t) => {
  const lines = await linesOf(t, "throws", own.cluster.endpoints.join(","));
  has(lines, /^told .*"b".* subscriber threw/, /^told .*"b".* subscriber rejected/, /^told .*"q".* consumer threw/);
});

test("an adapter that is disconnected twice, and used afterwards", async (t) => {
  const lines = await linesOf(t, "closed", own.cluster.endpoints.join(","));
  has(lines, ...["get", "produce", "consume", "subscribe", "lock"].map((call) => new RegExp(`^${call}: ClosedError: `)));
});

test("options that can't be", async (t) => {
  const lines = await linesOf(t, "options", own.cluster.endpoints.join(","));
  has(lines, /^endpoints: .*"nowhere" is not host:port/, /^namespace: .*255/, /^wait: .*deliveryWaitMs is -1/);
});

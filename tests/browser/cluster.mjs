// A cluster of three nodes of the real binary on this machine, filled with something of everything, whose nodes can be
// killed and started again. UI_BINARY names the binary.

import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const READY_MS = 30_000;

// Ports that nobody has now. All are held until the last is found, so that none comes twice.
async function freePorts(count) {
  const held = await Promise.all(Array.from({ length: count }, () => new Promise((resolve, reject) => {
    const server = createServer().once("error", reject).listen(0, "127.0.0.1", () => resolve(server));
  })));
  const ports = held.map((server) => server.address().port);
  await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export async function startCluster() {
  const binary = process.env.UI_BINARY;
  if (!binary) throw new Error("UI_BINARY has to name the binary: run scripts/browser");
  const dir = await mkdtemp(join(tmpdir(), "quorate-browser-"));
  const token = randomBytes(32).toString("hex");
  await writeFile(join(dir, "admin.token"), token, { mode: 0o600 });
  const ports = await freePorts(9);
  const nodes = [1, 2, 3].map((id) => ({ id, client: ports[3 * id - 3], peer: ports[3 * id - 2], http: ports[3 * id - 1], process: null }));
  const peers = nodes.map((node) => `${node.id}=127.0.0.1:${node.peer}`).join();
  const env = { ...process.env, QUORATE_ENDPOINTS: nodes.map((node) => `127.0.0.1:${node.client}`).join(), QUORATE_TOKEN_FILE: join(dir, "admin.token") };
  const others = new Set();

  async function start(node) {
    const log = await open(join(dir, `node-${node.id}.log`), "a");
    node.process = spawn(binary, [
      "serve", "--node-id", node.id, "--data-dir", join(dir, `data-${node.id}`), "--initial-cluster", peers, "--client-listen", `127.0.0.1:${node.client}`,
      "--peer-listen", `127.0.0.1:${node.peer}`, "--http-listen", `127.0.0.1:${node.http}`, "--auth-enabled", "--auth-admin-token-file", join(dir, "admin.token"),
    ].map(String), { stdio: ["ignore", log.fd, log.fd] });
    await log.close();
    const until = Date.now() + READY_MS;
    for (;;) {
      const ready = await fetch(`http://127.0.0.1:${node.http}/readyz`).then((answer) => answer.ok, () => false);
      if (ready) return;
      if (node.process.exitCode !== null || Date.now() > until) throw new Error(`node ${node.id} is not ready: ${(await readFile(join(dir, `node-${node.id}.log`), "utf8")).slice(-2000)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  const ended = (child) => new Promise((resolve) => (child.exitCode === null && child.signalCode === null ? child.once("exit", resolve) : resolve()));
  const ask = async (node, path) => (await fetch(`http://127.0.0.1:${node.http}/api/v1/${path}`, { headers: { authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(5000) })).json();
  const cluster = {
    dir, token, nodes, start,
    url: (node) => `http://127.0.0.1:${node.http}/ui/`,
    quorate: async (...args) => (await run(binary, args.map(String), { env })).stdout,
    // Something that goes on by itself, until it ends with the cluster.
    goesOn: (...args) => {
      const child = spawn(binary, args.map(String), { env, stdio: "ignore" });
      others.add(child);
      return child;
    },
    ask,
    async leader() {
      const until = Date.now() + READY_MS;
      for (;;) {
        for (const node of nodes) {
          const { leader_id: id } = await ask(node, "overview").catch(() => ({}));
          const found = nodes.find((one) => String(one.id) === id);
          if (found?.process?.exitCode === null && found.process.signalCode === null) return found;
        }
        if (Date.now() > until) throw new Error("nobody leads");
      }
    },
    // As a power failure of the machine has it.
    async kill(node) {
      node.process.kill("SIGKILL");
      await ended(node.process);
    },
    async stop() {
      for (const child of others) child.kill("SIGKILL");
      for (const node of nodes) node.process?.kill("SIGKILL");
      await Promise.all([...others, ...nodes.map((node) => node.process).filter(Boolean)].map(ended));
      await rm(dir, { recursive: true, force: true });
    },
  };
  try {
    await Promise.all(nodes.map(start));
    await fill(cluster);
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return cluster;
}

// Something of everything that the pages show, and work that goes on.
async function fill({ quorate, goesOn }) {
    for (const to of ["ann", "bob", "eve"]) await quorate("queue", "push", "emails", JSON.stringify({ to }));
  const failed = JSON.parse(await quorate("queue", "pull", "emails", "-o", "json"));
  await quorate("queue", "nack", "emails", failed.id, "--lease", failed.lease, "--dead", "--error", "no such address");
  for (const user of ["ann", "bob"]) await quorate("kv", "set", `user/${user}`, JSON.stringify({ name: user }));
  await quorate("cache", "set", "page", "html");
  goesOn("lock", "run", "report", "--", "sleep", 3600);
  goesOn("bus", "sub", "user.*");
  // Not more than a machine that also runs a browser has room for.
  goesOn("bench", "kv", "--seconds", 3600, "--rate", 100, "--keys", 100);
}

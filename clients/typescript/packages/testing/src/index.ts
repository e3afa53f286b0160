/**
 * Clusters for tests: real processes on this machine, in a temporary directory, that can be killed,
 * paused and restarted.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

export interface ClusterOptions {
  /** How many nodes. Default: 3. */
  readonly nodes?: number;
  /** The program. Default: the environment variable `QUORATE_BINARY`, else `quorate` on the path. */
  readonly binary?: string;
}

interface Node {
  readonly id: number;
  readonly arguments: readonly string[];
  child: ChildProcess | undefined;
}

/** How long a cluster may take to have a leader that all know. */
const HEALTHY_TIMEOUT_MS = 60_000;

/**
 * A cluster for a test.
 *
 * ```ts
 * const cluster = await TestCluster.start();
 * const client = new Client({ endpoints: cluster.endpoints });
 * await cluster.killLeader();
 * // …the client goes on…
 * await cluster.stop();
 * ```
 */
export class TestCluster {
  readonly endpoints: readonly string[];
  readonly #binary: string;
  readonly #directory: string;
  readonly #nodes: Node[];

  private constructor(binary: string, directory: string, endpoints: readonly string[], nodes: Node[]) {
    this.#binary = binary;
    this.#directory = directory;
    this.endpoints = endpoints;
    this.#nodes = nodes;
  }

  /** Starts one; resolves when all of its nodes know a leader. */
  static async start(options: ClusterOptions = {}): Promise<TestCluster> {
    const count = options.nodes ?? 3;
    const binary = options.binary ?? findBinary();
    const directory = await mkdtemp(join(tmpdir(), "quorate-test-"));
    const ports = await freePorts(3 * count);
    const port = (node: number, offset: number) => ports[node * 3 + offset] as number;
    const peers = Array.from({ length: count }, (_, at) => `${at + 1}=127.0.0.1:${port(at, 1)}`).join(",");
    const nodes = Array.from({ length: count }, (_, at): Node => ({
      id: at + 1,
      child: undefined,
      arguments: [
        "serve",
        "--node-id", String(at + 1),
        "--data-dir", join(directory, `node-${at + 1}`),
        "--client-listen", `127.0.0.1:${port(at, 0)}`,
        "--peer-listen", `127.0.0.1:${port(at, 1)}`,
        "--http-listen", `127.0.0.1:${port(at, 2)}`,
        "--initial-cluster", peers,
        "--stop-on-stdin-eof",
      ],
    }));
    const endpoints = nodes.map((_, at) => `127.0.0.1:${port(at, 0)}`);
    const cluster = new TestCluster(binary, directory, endpoints, nodes);
    try {
      for (const node of nodes) cluster.#spawn(node);
      await cluster.awaitHealthy();
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** The leader's id; `undefined` while there is none. */
  async leader(): Promise<number | undefined> {
    for (const node of this.#running()) {
      const status = await this.#status(node);
      const leader = status?.nodes.find((one) => one.role === "leader" && one.healthy);
      if (leader !== undefined) return leader.node_id;
    }
    return undefined;
  }

  /** Kills the leader, as a loss of power would; answers which node it was. */
  async killLeader(): Promise<number> {
    const leader = await this.leader();
    if (leader === undefined) throw new Error("no node leads just now");
    await this.kill(leader);
    return leader;
  }

  /** Kills a node; resolves when its process is gone. */
  async kill(id: number): Promise<void> {
    const child = this.#node(id).child;
    if (child === undefined) throw new Error(`node ${id} does not run`);
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
    this.#node(id).child = undefined;
  }

  /** Starts a node again that was killed. */
  restart(id: number): void {
    const node = this.#node(id);
    if (node.child !== undefined) throw new Error(`node ${id} runs`);
    this.#spawn(node);
  }

  /** Stops a node's process where it stands: it says nothing, and its connections stay open. */
  pause(id: number): void {
    this.#node(id).child?.kill("SIGSTOP");
  }

  /** Lets a paused node go on. */
  resume(id: number): void {
    this.#node(id).child?.kill("SIGCONT");
  }

  /** Waits until all nodes that run know the same leader. */
  async awaitHealthy(timeoutMs = HEALTHY_TIMEOUT_MS): Promise<void> {
    const until = Date.now() + timeoutMs;
    for (;;) {
      const running = this.#running();
      const seen = await Promise.all(running.map((node) => this.#status(node)));
      const leaders = new Set(seen.map((status) => status?.leader_id ?? undefined));
      const [leader] = leaders;
      if (leaders.size === 1 && leader !== undefined && running.some((node) => node.id === leader)) return;
      if (Date.now() > until) throw new Error(`the cluster in ${this.#directory} has no leader after ${timeoutMs} ms`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Ends it, and removes its directory. */
  async stop(): Promise<void> {
    await Promise.all(this.#running().map((node) => this.kill(node.id).catch(() => {})));
    await rm(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.for("Symbol.asyncDispose") as typeof Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #running(): Node[] {
    return this.#nodes.filter((node) => node.child !== undefined);
  }

  #node(id: number): Node {
    const node = this.#nodes[id - 1];
    if (node === undefined) throw new Error(`there is no node ${id}`);
    return node;
  }

  #spawn(node: Node): void {
    const child = spawn(this.#binary, node.arguments, { stdio: ["pipe", "ignore", "pipe"] });
    child.stderr.pipe(createWriteStream(join(this.#directory, `node-${node.id}.log`), { flags: "a" }));
    child.on("error", () => {});
    node.child = child;
  }

  /** What a node says of the cluster; nothing when it does not answer. */
  #status(node: Node): Promise<Status | undefined> {
    const endpoint = this.endpoints[node.id - 1] as string;
    const asked = ["cluster", "status", "--output", "json", "--endpoints", endpoint, "--timeout", "1s"];
    return new Promise((resolve) => {
      execFile(this.#binary, asked, { timeout: 3_000 }, (error, stdout) => {
        resolve(error === null ? (JSON.parse(stdout) as Status) : undefined);
      });
    });
  }
}

interface Status {
  readonly leader_id: number | null;
  readonly nodes: readonly { readonly node_id: number; readonly role: string; readonly healthy: boolean }[];
}

function findBinary(): string {
  const named = process.env["QUORATE_BINARY"];
  if (named !== undefined && named !== "") {
    if (!existsSync(named)) throw new Error(`QUORATE_BINARY names ${named}, and there is no such file`);
    return named;
  }
  for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
    if (existsSync(join(directory, "quorate"))) return join(directory, "quorate");
  }
  throw new Error("there is no quorate on the path; install it, or name it with QUORATE_BINARY");
}

/** Ports that are free just now. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

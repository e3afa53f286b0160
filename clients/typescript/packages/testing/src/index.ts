/**
 * Clusters for tests: real processes on this machine, in a temporary directory, that can be killed,
 * paused, cut apart and restarted. They are started by `quorate dev --test-control`.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import "./dispose.js";

export interface ClusterOptions {
  /** How many nodes, 1 to 9. Default: 3. */
  readonly nodes?: number;
  /** The program. Default: the environment variable `QUORATE_BIN`, else `quorate` on the path. */
  readonly binary?: string;
}

/** A node as it is now. */
export interface NodeState {
  readonly id: number;
  /** Where clients reach it. */
  readonly endpoint: string;
  readonly running: boolean;
  readonly paused: boolean;
  /** Nodes that it does not reach, nor they it. */
  readonly cutOff: readonly number[];
}

/** Lines of what the program said that an error shows. */
const LINES_SHOWN = 20;
/** How long a call may take, in milliseconds: a leader is waited for up to half a minute. */
const CALL_TIMEOUT_MS = 60_000;
/** How long the nodes may take to stop in order. */
const STOP_TIMEOUT_MS = 40_000;

/**
 * A cluster for a test.
 *
 * ```ts
 * const cluster = await TestCluster.start();
 * const client = new Client({ endpoints: cluster.endpoints });
 * const killed = await cluster.killLeader();
 * // …the client goes on…
 * await cluster.restart(killed);
 * await client.close();
 * await cluster.stop();
 * ```
 *
 * Its nodes end with this process, however that ends.
 */
export class TestCluster {
  /** Where clients reach the nodes, in the order of their ids. */
  readonly endpoints: readonly string[];
  readonly #child: ChildProcess;
  readonly #control: string;
  readonly #ended: Promise<void>;

  private constructor(child: ChildProcess, endpoints: readonly string[], control: string, ended: Promise<void>) {
    this.#child = child;
    this.endpoints = endpoints;
    this.#control = control;
    this.#ended = ended;
  }

  /** Starts one; resolves when all of its nodes know a leader. */
  static async start(options: ClusterOptions = {}): Promise<TestCluster> {
    const binary = options.binary ?? findBinary();
    const given = ["dev", "--nodes", String(options.nodes ?? 3), "--base-port", "0", "--test-control"];
    // It is no setting of the nodes, which refuse what they do not know.
    const { QUORATE_BIN: _, ...env } = process.env;
    const child = spawn(binary, given, { env, stdio: ["ignore", "pipe", "pipe"] });
    // When this process ends without a word the pipes close; when it ends in order, it goes along.
    const goAlong = () => child.kill("SIGTERM");
    process.once("exit", goAlong);
    const said: string[] = [];
    const ended = new Promise<void>((resolve) => {
      child.once("close", () => resolve());
      child.once("error", (error) => {
        said.push(error.message);
        resolve();
      });
    }).finally(() => process.removeListener("exit", goAlong));
    createInterface(child.stderr).on("line", (line) => {
      said.push(line);
      if (said.length > LINES_SHOWN) said.shift();
    });
    const found = new Map<string, string>();
    const ready = new Promise<void>((resolve) => {
      createInterface(child.stdout).on("line", (line) => {
        const at = line.indexOf("=");
        found.set(line.slice(0, at), line.slice(at + 1));
        if (found.has("QUORATE_ENDPOINTS") && found.has("QUORATE_TEST_CONTROL")) resolve();
      });
    });
    await Promise.race([ready, ended]);
    const endpoints = found.get("QUORATE_ENDPOINTS");
    const control = found.get("QUORATE_TEST_CONTROL");
    if (endpoints === undefined || control === undefined) {
      child.kill("SIGKILL");
      await ended;
      throw new Error(`${binary} ${given.join(" ")} started no cluster:\n${said.join("\n")}`);
    }
    return new TestCluster(child, endpoints.split(","), control, ended);
  }

  /** The nodes as they are now. */
  async nodes(): Promise<NodeState[]> {
    const { nodes } = await this.#call<Status>("GET", "status");
    return nodes.map(({ id, client_addr: endpoint, running, paused, cut_off: cutOff }) => ({
      id,
      endpoint,
      running,
      paused,
      cutOff,
    }));
  }

  /** The leader's id; `undefined` while none leads that a majority follows. */
  async leader(): Promise<number | undefined> {
    return (await this.#call<Status>("GET", "status")).leader ?? undefined;
  }

  /** Kills the leader, as a loss of power would, once there is one; answers which node it was. */
  async killLeader(): Promise<number> {
    return (await this.#call<{ node: number }>("POST", "kill-leader")).node;
  }

  /** Kills a node; resolves when its process is gone. */
  async kill(id: number): Promise<void> {
    await this.#call("POST", `kill/${id}`);
  }

  /** Starts a node again with what is on its disk; kills it first if it runs. */
  async restart(id: number): Promise<void> {
    await this.#call("POST", `restart/${id}`);
  }

  /** Stops a node's process where it stands: it says nothing, and its connections stay open. */
  async pause(id: number): Promise<void> {
    await this.#call("POST", `pause/${id}`);
  }

  /** Lets a paused node go on. */
  async resume(id: number): Promise<void> {
    await this.#call("POST", `resume/${id}`);
  }

  /** Cuts these nodes off from all others, in place of any cut before. Clients still reach all of them. */
  async partition(...ids: number[]): Promise<void> {
    await this.#call("POST", `partition/${ids.join(",")}`);
  }

  /** Mends what was cut. */
  async heal(): Promise<void> {
    await this.#call("POST", "heal");
  }

  /** Waits until all nodes that run know the same leader; answers which. At most 10 minutes. */
  async awaitHealthy(timeoutMs = 30_000): Promise<number> {
    const seconds = Math.max(Math.ceil(timeoutMs / 1_000), 1);
    return (await this.#call<{ leader: number }>("POST", `await-healthy/${seconds}`, timeoutMs)).leader;
  }

  /** Stops the nodes, and removes their data. Doing it again does nothing. */
  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        this.#child.kill("SIGKILL");
        resolve();
      }, STOP_TIMEOUT_MS);
    });
    await Promise.race([this.#ended, late]);
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #call<T>(method: "GET" | "POST", what: string, waitMs = 0): Promise<T> {
    const signal = AbortSignal.timeout(CALL_TIMEOUT_MS + waitMs);
    const answer = await fetch(`${this.#control}/${what}`, { method, signal });
    const said = (await answer.json()) as T & { error?: string };
    if (!answer.ok) throw new Error(`${what}: ${said.error ?? answer.status}`);
    return said;
  }
}

interface Status {
  readonly leader: number | null;
  readonly nodes: readonly {
    readonly id: number;
    readonly client_addr: string;
    readonly running: boolean;
    readonly paused: boolean;
    readonly cut_off: readonly number[];
  }[];
}

function findBinary(): string {
  const named = process.env["QUORATE_BIN"];
  if (named !== undefined && named !== "") {
    if (!existsSync(named)) throw new Error(`QUORATE_BIN names ${named}, and there is no such file`);
    return named;
  }
  for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
    if (existsSync(join(directory, "quorate"))) return join(directory, "quorate");
  }
  throw new Error("there is no quorate on the path; install it, or name it with QUORATE_BIN");
}

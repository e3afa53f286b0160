/** A broker of one node as a child process: for development, and for applications on one machine. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { Client } from "@quorate/client";

/** Where it listens when nothing is said. */
const LISTEN = "127.0.0.1:8811";
/** How long it may take until it serves. */
const START_TIMEOUT_MS = 60_000;
/** How long it may take to stop in order. */
const STOP_TIMEOUT_MS = 30_000;
/** The end of what it has written that an error text has. */
const TEXT_MAX = 2_000;

/** How a broker is started. */
export interface QuorateServerOptions {
  /** Where applications connect, `host:port`; the next two ports are used as well. Default: `127.0.0.1:8811`. */
  readonly listen?: string | undefined;
  /** Where it keeps its data. Default: `./quorate-data`. */
  readonly dataDir?: string | undefined;
  /** The program. Default: the environment variable `QUORATE_BIN`, else `quorate` on the path. */
  readonly binary?: string | undefined;
  /** Further arguments of `quorate serve`. */
  readonly arguments?: readonly string[] | undefined;
}

/**
 * A broker that runs as long as this process: it is stopped in order with {@link QuorateServer.stop}, and
 * ends by itself when this process dies. Its data outlives both.
 */
export class QuorateServer {
  /** Where it listens. */
  readonly listen: string;
  readonly #options: QuorateServerOptions;
  #child: ChildProcess | undefined;
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: QuorateServerOptions = {}) {
    this.#options = options;
    this.listen = addressOf(options.listen ?? LISTEN);
  }

  /** Starts it; resolves when it serves. Doing it again does nothing. */
  start(): Promise<void> {
    this.#starting ??= this.#start().catch(async (error: unknown) => {
      await this.stop();
      throw error;
    });
    return this.#starting;
  }

  /** Stops it in order; resolves when it is gone. Doing it again does nothing. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #start(): Promise<void> {
    const [host, port] = splitAddress(this.listen);
    const child = spawn(
      this.#options.binary ?? findBinary(),
      [
        "serve",
        "--data-dir", this.#options.dataDir ?? "quorate-data",
        "--client-listen", this.listen,
        "--peer-listen", `${host}:${port + 1}`,
        "--http-listen", `${host}:${port + 2}`,
        "--stop-on-stdin-eof",
        ...(this.#options.arguments ?? []),
      ],
      { stdio: ["pipe", "ignore", "pipe"] },
    );
    this.#child = child;
    let text = "";
    child.stderr?.on("data", (said: Buffer) => (text = (text + said.toString()).slice(-TEXT_MAX)));
    // The pipe to a child that is gone already.
    child.stdin?.on("error", () => {});
    const gone = new AbortController();
    const ended = new Promise<never>((_, reject) => {
      const over = (why: string) => {
        gone.abort();
        reject(new Error(`the broker at ${this.listen} did not start: ${why}${text === "" ? "" : `: ${text.trim()}`}`));
      };
      child.once("error", (error) => over(error.message));
      child.once("exit", (code, signal) => over(`it ended with ${code ?? signal}`));
    });
    ended.catch(() => {});
    await Promise.race([ended, this.#serves(gone.signal)]);
  }

  /** Waits until it answers a read, which it does when it leads itself. */
  async #serves(signal: AbortSignal): Promise<void> {
    const client = new Client({ endpoints: this.listen, onError: () => {} });
    try {
      await client.kv.get("quorate-deepkit-started", { timeoutMs: START_TIMEOUT_MS, signal });
    } finally {
      await client.close();
    }
  }

  async #stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await gone;
    clearTimeout(timer);
  }
}

/** An address as the broker takes it; the framework's own default, a socket's path, is none. */
export function addressOf(listen: string): string {
  return isAddress(listen) ? listen.replace(/^localhost:/, "127.0.0.1:") : LISTEN;
}

/** Whether it is `host:port`, and not the path of a socket. */
export function isAddress(text: string): boolean {
  return /^[^/]+:\d{1,5}$/.test(text);
}

function splitAddress(address: string): [string, number] {
  const colon = address.lastIndexOf(":");
  return [address.slice(0, colon), Number(address.slice(colon + 1))];
}

function findBinary(): string {
  const named = process.env["QUORATE_BIN"];
  if (named !== undefined && named !== "") return named;
  for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
    if (existsSync(join(directory, "quorate"))) return join(directory, "quorate");
  }
  throw new Error("there is no quorate on the path; install it, or name it with QUORATE_BIN");
}

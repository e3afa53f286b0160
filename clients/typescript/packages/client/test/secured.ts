/** One node with TLS, that asks for a token or a certificate. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { randomBytes } from "node:crypto";

const run = promisify(execFile);

export interface Secured {
  readonly endpoint: string;
  readonly caFile: string;
  /** May do everything. */
  readonly adminToken: string;
  /** May read keys that begin with `shop.`, and nothing else. */
  readonly readerToken: string;
  /** A client's certificate, of the same rights. */
  readonly certFile: string;
  readonly keyFile: string;
  stop(): Promise<void>;
}

export async function startSecured(): Promise<Secured> {
  const binary = process.env["QUORATE_BIN"] ?? "quorate";
  const directory = await mkdtemp(join(tmpdir(), "quorate-secured-"));
  const file = (name: string) => join(directory, name);
  await run(binary, ["certs", "create", "--dir", directory, "--node", "1=127.0.0.1", "--client", "reader"]);
  const adminToken = `qt_${randomBytes(32).toString("hex")}`;
  await writeFile(file("admin.token"), adminToken, { mode: 0o600 });
  const node = spawn(
    binary,
    [
      "serve",
      "--data-dir", file("data"),
      "--client-listen", "127.0.0.1:0",
      "--peer-listen", `127.0.0.1:${await freePort()}`,
      "--http-listen", "127.0.0.1:0",
      "--tls-cert-file", file("node-1.pem"),
      "--tls-key-file", file("node-1-key.pem"),
      "--tls-client-ca-file", file("ca.pem"),
      "--auth-enabled",
      "--auth-admin-token-file", file("admin.token"),
      "--stop-on-stdin-eof",
    ],
    { stdio: ["pipe", "pipe", "ignore"] },
  );
  const stop = async () => {
    if (node.exitCode === null) {
      const gone = once(node, "exit");
      node.kill("SIGKILL");
      await gone;
    }
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const lines = createInterface({ input: node.stdout });
    const ended = once(node, "exit").then(() => Promise.reject(new Error("the node has ended")));
    ended.catch(() => {});
    const [line] = (await Promise.race([once(lines, "line"), ended])) as [string];
    const endpoint = /client (\S+?),/.exec(line)?.[1];
    if (endpoint === undefined) throw new Error(`the node does not say where it listens: ${line}`);
    const caFile = file("ca.pem");
    const environment = { ...process.env, QUORATE_TOKEN: adminToken };
    const command = async (...args: string[]) => {
      const all = [...args, "--endpoints", endpoint, "--ca-file", caFile, "--timeout", "30s"];
      return (await run(binary, all, { env: environment })).stdout;
    };
    await command("auth", "role", "put", "reader", "--allow", "kv:read:shop.*");
    await command("auth", "subject", "put", "reader", "--role", "reader");
    const made = await command("auth", "token", "create", "shop", "--role", "reader");
    const readerToken = /qt_\S+/.exec(made)?.[0];
    if (readerToken === undefined) throw new Error("no token was printed");
    return { endpoint, caFile, adminToken, readerToken, certFile: file("client-reader.pem"), keyFile: file("client-reader-key.pem"), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

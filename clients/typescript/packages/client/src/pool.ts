/** One connection per address, made when it is first needed, and again after it broke. */
import { Client, Metadata, credentials as grpcCredentials, type ChannelCredentials } from "@grpc/grpc-js";
import { readFileSync } from "node:fs";
import { badOption } from "./errors.js";
import { NODES_MAX } from "./nodes.js";
import { Pipe, PipeFailed } from "./pipe.js";
import { within } from "./time.js";

/** Connections kept at once: twice what the list of nodes may hold. */
const CONNECTIONS_MAX = 2 * NODES_MAX;
/** Bytes of a message that a node may send: above the largest value with all that is around it. */
const MESSAGE_BYTES_MAX = 8 << 20;
/** Silence on a connection that has calls before the peer is asked for a sign of life. */
const PING_AFTER_MS = 5_000;
/** Characters of a token: ours have fewer than 100. */
const TOKEN_MAX = 1_024;

/** How connections are encrypted. The nodes' certificates have to be for the host in their address. */
export interface Tls {
  /** Certificates that are believed, PEM; the system's when neither this nor `caFile` is there. */
  readonly ca?: string | Buffer | undefined;
  /** The same from a file; read again for each connection. */
  readonly caFile?: string | undefined;
  /** This client's certificate, PEM, where nodes ask for one. */
  readonly cert?: string | Buffer | undefined;
  readonly certFile?: string | undefined;
  /** Its private key, PEM. */
  readonly key?: string | Buffer | undefined;
  readonly keyFile?: string | undefined;
}

/** A connection to one node. */
export class Connection {
  readonly addr: string;
  readonly grpc: Client;
  readonly pipe: Pipe;
  #streams = 0;
  #retired = false;

  constructor(addr: string, grpc: Client, metadata: Metadata) {
    this.addr = addr;
    this.grpc = grpc;
    this.pipe = new Pipe(grpc, metadata, () => this.#closeIfDone());
  }

  /** Whether the node said anything since then. */
  heardSince(since: number): boolean {
    return this.pipe.heardAt >= since;
  }

  /** A stream of its own begins on it. Answers what is to be called at its end, once. */
  lend(): () => void {
    this.#streams += 1;
    let lent = true;
    return () => {
      if (!lent) return;
      lent = false;
      this.#streams -= 1;
      this.#closeIfDone();
    };
  }

  /** No new calls are made on it; it is closed when those there are have ended. */
  retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    this.pipe.closeWhenIdle();
    this.#closeIfDone();
  }

  /** Closes it now. */
  close(): void {
    this.#retired = true;
    this.pipe.close();
    this.grpc.close();
  }

  #closeIfDone(): void {
    if (this.#retired && this.#streams === 0 && this.pipe.isClosed) this.grpc.close();
  }
}

interface Slot {
  readonly connection: Connection;
  readonly dialling: Promise<Connection>;
  connected: boolean;
}

/** The connections of a client. */
export class Pool {
  readonly connectTimeoutMs: number;
  /** What goes along with each call. */
  readonly metadata: Metadata;
  readonly #tls: Tls | undefined;
  readonly #slots = new Map<string, Slot>();
  #closed = false;

  constructor(tls: Tls | undefined, token: string | undefined, connectTimeoutMs: number) {
    this.#tls = tls;
    this.connectTimeoutMs = connectTimeoutMs;
    this.metadata = new Metadata();
    if (token !== undefined) this.metadata.set("authorization", `Bearer ${checked(token)}`);
    // What is wrong with files is said now rather than by each call.
    this.#credentials();
  }

  /** A connection whose node has answered. Rejects with {@link PipeFailed}. */
  async connect(addr: string, timeoutMs: number): Promise<Connection> {
    let slot = this.#slots.get(addr);
    if (slot === undefined || slot.connection.pipe.isClosed) {
      slot = this.#dial(addr);
    }
    const made = await within(timeoutMs, slot.dialling);
    if (made !== undefined) return made.value;
    if (!slot.connected) this.discard(slot.connection);
    throw new PipeFailed({ kind: "unsent", why: `no connection within ${Math.round(timeoutMs)} ms` });
  }

  isConnected(addr: string): boolean {
    return this.#slots.get(addr)?.connected === true;
  }

  /** The next call dials anew; those that are on it go on. */
  discard(connection: Connection): void {
    if (this.#slots.get(connection.addr)?.connection === connection) {
      this.#slots.delete(connection.addr);
    }
    connection.retire();
  }

  close(): void {
    this.#closed = true;
    for (const { connection } of this.#slots.values()) connection.close();
    this.#slots.clear();
  }

  #dial(addr: string): Slot {
    if (this.#closed) throw new PipeFailed({ kind: "unsent", why: "the client was closed" });
    const old = this.#slots.get(addr);
    if (old !== undefined) this.discard(old.connection);
    if (this.#slots.size >= CONNECTIONS_MAX) {
      // The oldest: addresses that are learnt come and go.
      const [oldest] = this.#slots.values();
      if (oldest !== undefined) this.discard(oldest.connection);
    }
    const grpc = new Client(addr, this.#credentials(), {
      // A connection belongs to one client, and what it does it does when it is told to.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_retries": 0,
      "grpc.enable_http_proxy": 0,
      "grpc.service_config_disable_resolution": 1,
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": -1,
      "grpc.keepalive_time_ms": PING_AFTER_MS,
      "grpc.keepalive_timeout_ms": PING_AFTER_MS,
    });
    const connection = new Connection(addr, grpc, this.metadata);
    const dialling = connection.pipe.ready.then(
      () => {
        slot.connected = true;
        return connection;
      },
      (error: unknown) => {
        this.discard(connection);
        throw error;
      },
    );
    dialling.catch(() => {});
    const slot: Slot = { connection, dialling, connected: false };
    this.#slots.set(addr, slot);
    return slot;
  }

  #credentials(): ChannelCredentials {
    if (this.#tls === undefined) return grpcCredentials.createInsecure();
    const { ca, caFile, cert, certFile, key, keyFile } = this.#tls;
    const given = (name: string, value: string | Buffer | undefined, file: string | undefined) => {
      if (value !== undefined) return Buffer.from(value);
      if (file === undefined) return null;
      try {
        return readFileSync(file);
      } catch (error) {
        throw badOption(`tls.${name}: can't read ${file}: ${(error as Error).message}`);
      }
    };
    const chain = given("certFile", cert, certFile);
    const secret = given("keyFile", key, keyFile);
    if ((chain === null) !== (secret === null)) {
      throw badOption("tls: a certificate and its key belong together; one of them is not given");
    }
    const authority = given("caFile", ca, caFile);
    for (const [name, pem, words] of [["ca", authority, "CERTIFICATE"], ["cert", chain, "CERTIFICATE"], ["key", secret, "KEY"]] as const) {
      if (pem !== null && !new RegExp(`-----BEGIN [A-Z0-9 ]*${words}-----`).test(pem.toString("latin1"))) {
        throw badOption(`tls.${name} is no PEM: there is no line -----BEGIN … ${words}----- in it`);
      }
    }
    try {
      return grpcCredentials.createSsl(authority, secret, chain);
    } catch (error) {
      throw badOption(`tls: the certificates or the key can't be used: ${(error as Error).message}`);
    }
  }
}

function checked(token: string): string {
  const trimmed = token.trim();
  if (trimmed === "") throw badOption("the token is empty");
  if (trimmed.length > TOKEN_MAX || !/^[\x21-\x7e]+$/.test(trimmed)) {
    throw badOption("the token has characters that no token has; was it copied as a whole, and alone?");
  }
  return trimmed;
}

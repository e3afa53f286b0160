/** One cluster for all tests of a file, and adapters that are ended with their test. */
import { randomUUID } from "node:crypto";
import { after, before } from "node:test";
import { QuorateBrokerAdapter, type QuorateBrokerOptions } from "@quorate/deepkit";
import { TestCluster } from "@quorate/testing";

/** What a test does at its end. */
export interface Ends {
  after(end: () => Promise<void> | void): void;
}

/** A cluster that lives as long as the tests of this file. */
export function clusterForFile(): { readonly cluster: TestCluster } {
  let cluster: TestCluster | undefined;
  before(async () => {
    cluster = await TestCluster.start();
  });
  after(async () => {
    await cluster?.stop();
  });
  return {
    get cluster() {
      if (cluster === undefined) throw new Error("the cluster has not started");
      return cluster;
    },
  };
}

/** What was told where no caller waits. */
export interface Told {
  readonly error: unknown;
  readonly where: string;
}

/** An adapter in a namespace of its own unless one is named; what it is told is kept. */
export function adapterOf(
  cluster: TestCluster,
  test: Ends,
  options: QuorateBrokerOptions = {},
): QuorateBrokerAdapter & { readonly told: Told[] } {
  const told: Told[] = [];
  const adapter = new QuorateBrokerAdapter({
    endpoints: cluster.endpoints,
    namespace: randomUUID(),
    // The machine may be slow; no test waits so long for what is not to come.
    deliveryWaitMs: 10_000,
    requestTimeoutMs: 20_000,
    onError: (error, where) => void told.push({ error, where }),
    ...options,
  });
  test.after(() => adapter.disconnect());
  return Object.assign(adapter, { told });
}

/** Kills all nodes at once, and starts them again; resolves when they know a leader. */
export async function restartAll(cluster: TestCluster): Promise<void> {
  const nodes = cluster.endpoints.map((_, at) => at + 1);
  await Promise.all(nodes.map((node) => cluster.kill(node)));
  for (const node of nodes) await cluster.restart(node);
  await cluster.awaitHealthy();
}

/** Waits until something holds, asking again and again. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  for (const end = Date.now() + timeoutMs; !(await holds()); ) {
    if (Date.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

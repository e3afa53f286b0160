/** The behaviours that the framework documents, on a cluster of three nodes. */
import { test } from "node:test";
import { behaviours } from "./behaviours.js";
import { adapterOf, clusterForFile } from "./cluster.js";

/** Longer than anything takes on a slow machine. */
const SOON_MS = 30_000;

const own = clusterForFile();

for (const { name, run } of behaviours) {
  test(name, (t) => run({ adapter: adapterOf(own.cluster, t), soonMs: SOON_MS, after: (end) => t.after(end) }));
}

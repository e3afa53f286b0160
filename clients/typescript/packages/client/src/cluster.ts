/** The cluster itself: who is in it, and who leads. */
import { create } from "@bufbuild/protobuf";
import type { Place } from "./client.js";
import { Role, StatusRequestSchema } from "./gen/quorate/v1/cluster_pb.js";
import type { CallOptions } from "./inner.js";

/** A node as another one knows it. */
export interface NodeStatus {
  readonly nodeId: number;
  readonly role: "leader" | "follower" | "candidate" | "learner" | "shutdown" | "unknown";
  /** Whether it answered and knows a leader. */
  readonly healthy: boolean;
  /** Why it is not healthy; empty when it is. */
  readonly problem: string;
  readonly version: string;
}

/** The cluster as one node knows it, without asking a quorum. */
export interface ClusterStatus {
  readonly clusterId: string;
  readonly term: number;
  /** `undefined` while nobody leads, or that node does not know. */
  readonly leaderId: number | undefined;
  readonly nodes: readonly NodeStatus[];
}

const ROLES: Partial<Record<Role, NodeStatus["role"]>> = {
  [Role.LEADER]: "leader",
  [Role.FOLLOWER]: "follower",
  [Role.CANDIDATE]: "candidate",
  [Role.LEARNER]: "learner",
  [Role.SHUTDOWN]: "shutdown",
};

/** What the cluster says of itself. */
export class Cluster {
  readonly #place: Place;

  /** @internal */
  constructor(place: Place) {
    this.#place = place;
  }

  /** How the cluster is, as whichever node answers knows it. */
  async status(options: CallOptions = {}): Promise<ClusterStatus> {
    const request = create(StatusRequestSchema);
    const answer = await this.#place.inner.read("cluster status", options, "clusterStatus", () => request);
    return {
      clusterId: answer.clusterId,
      term: Number(answer.term),
      leaderId: answer.leaderId === undefined ? undefined : Number(answer.leaderId),
      nodes: answer.nodes.map(({ nodeId, role, healthy, problem, version }) => ({
        nodeId: Number(nodeId),
        role: ROLES[role] ?? "unknown",
        healthy,
        problem,
        version,
      })),
    };
  }
}

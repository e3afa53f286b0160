/** All behaviours that are checked on both brokers. */
import { busBehaviours } from "./behaviours-bus.js";
import { queueBehaviours } from "./behaviours-queue.js";
import { stateBehaviours } from "./behaviours-state.js";
import type { Behaviour } from "./behaviour.js";

export const behaviours: readonly Behaviour[] = [...stateBehaviours, ...busBehaviours, ...queueBehaviours];

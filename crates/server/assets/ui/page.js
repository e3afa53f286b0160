// What all pages do alike: ask every two seconds, show the answer, and say when it is not current or not allowed.

import { poll } from "./api.js";
import { notice } from "./dom.js";
import { ago, clock } from "./format.js";
import { live } from "./live.js";

export const EVERY_MS = 2000;
export const OLD = "There is no quorum. What you see is what this node has applied; it may be old.";

// Shows what `path` answers, again and again; `said` is a notice. Answers a function that asks at once.
export function follow(path, query, said, show, signal, everyMs = EVERY_MS) {
  return poll(path, query, everyMs, ({ data, failure, since, isStale, query: asked }) => {
    if (failure) {
      said.say(why(failure, since), failure.isPassing ? "warning" : "problem");
      return;
    }
    said.say(isStale ? OLD : null);
    show(data, { isStale, query: asked });
  }, signal);
}

function why(failure, since) {
  if (failure.status === 403) return `You may not see this: ${failure.message}.`;
  const words = failure.isPassing ? `Not current: ${failure.message}.` : `${sentence(failure.message)}.`;
  return since && failure.isPassing ? `${words} What you see is from ${clock(since)}, ${ago(since)}. It is asked again by itself.` : words;
}

// For pages that live on the stream alone: says since when it is gone.
export function staleness(signal) {
  const said = notice();
  const show = () => said.say(live.state === "lost" ? `Not live: ${live.why}. ${live.heardAt ? `What you see is from ${clock(live.heardAt)}. ` : ""}It is tried again by itself.` : null);
  live.addEventListener("state", show, { signal });
  show();
  return said;
}

export function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

// Asks again a moment after the last key was pressed.
export function typing(input, changed, signal) {
  let timer = null;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(changed, 300);
  }, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
}

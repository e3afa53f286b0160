/** A program that makes clients, uses one a little or none at all, and just ends. */
import { Client } from "@quorate/client";
import { say } from "./report.js";

new Client();
new Client({ endpoints: "127.0.0.1:1" }).namespace("x");
const closed = new Client();
await closed.close();
say({ what: "end" });

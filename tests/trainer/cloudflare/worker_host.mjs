/**
 * Runs the Worker in Node: an HTTP server before it, and its bindings over the stand-in's REST API.
 * Only the hosting is a stand-in for Cloudflare's; the Worker and the client are the real files.
 */

import { createServer } from "node:http";
import worker from "./worker.js";

const { api, account, namespace, token, vars } = JSON.parse(process.argv[2]);
const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
const base = `${api}/accounts/${account}`;

const env = {
  ...vars,
  RELEASES: {
    async get(key) {
      const found = await fetch(`${base}/storage/kv/namespaces/${namespace}/values/${key}`, { headers });
      return found.ok ? found.json() : null;
    },
  },
  AI: {
    async run(model, input) {
      const asked = { method: "POST", headers, body: JSON.stringify(input) };
      const { success, errors, result } = await (await fetch(`${base}/ai/run/${model}`, asked)).json();
      if (!success) throw new Error(`${errors[0].code}: ${errors[0].message}`); // as the binding does
      return result;
    },
  },
};

const server = createServer(async (incoming, outgoing) => {
  const chunks = await incoming.toArray();
  const body = chunks.length ? Buffer.concat(chunks) : undefined;
  const { method, headers: given, url } = incoming;
  const request = new Request(`http://worker${url}`, { method, headers: given, body });
  const answer = await worker.fetch(request, env, { waitUntil: (promise) => promise });
  outgoing.writeHead(answer.status, { "content-type": answer.headers.get("content-type") });
  outgoing.end(await answer.text());
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));

/**
 * Answers chats with the release that Bhavana points to, and sends what was said to it.
 *
 *   POST /chat     {messages, conversation_id?, subject?, consent?, line?, max_tokens?}
 *               -> {response, version, conversation_id, experience_id}
 *   GET  /version?line=main -> {version, canary}
 *
 * The pointer in KV says who answers. Where that finetune cannot be run, the one before answers,
 * and then the model without one: `version`, and the experience's `model`, say who it was.
 */

import { Client } from "./bhavana.js"; // copied here when the Worker is built
import { answerIn, Refused, render } from "./prompts.js";

const CACHE_SECONDS = 60; // KV's least
const INGEST_MS = 25_000; // a Worker may work for 30 s after its answer
const MOST_TOKENS = 1024;
/** Finetune unknown, its files not there, no LoRA on the model: another one may still answer. */
const ASK_ANOTHER = [3037, 3039, 5005];
const BUSY = [3036, 3040]; // the day's allocation, capacity
const ROLES = ["system", "user", "assistant"];

/** An answer that is no success. */
class Wrong extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export default {
  async fetch(request, env, context) {
    const { pathname, searchParams } = new URL(request.url);
    try {
      if (request.method === "GET" && pathname === "/version") {
        const pointer = await pointerOf(env, searchParams.get("line"));
        return json(200, { version: pointer.version, canary: pointer.canary?.version ?? null });
      }
      if (request.method === "POST" && pathname === "/chat") return await chat(request, env, context);
      throw new Wrong(404, "There are POST /chat and GET /version.");
    } catch (error) {
      if (error instanceof Refused) return json(400, { error: error.message });
      if (error instanceof Wrong) return json(error.status, { error: error.message });
      throw error;
    }
  },
};

async function chat(request, env, context) {
  await requireKey(request, env);
  const asked = await bodyOf(request);
  const pointer = await pointerOf(env, asked.line);
  const conversation = asked.conversation_id ?? crypto.randomUUID();
  const { voice, response } = await answer(env.AI, await inOrder(pointer, conversation), asked);
  const { messages, subject, consent } = asked;
  const said = { messages, response, conversation_id: conversation, subject, consent };
  return json(200, {
    response,
    version: voice.version,
    conversation_id: conversation,
    experience_id: record(env, context, { ...said, model: voice.version }),
  });
}

/** Nobody else may spend the account's allocation: without CHAT_KEY nobody may chat. */
async function requireKey(request, env) {
  const given = request.headers.get("Authorization")?.replace(/^Bearer /, "") ?? "";
  const [theirs, ours] = await Promise.all([digest(given), digest(env.CHAT_KEY ?? "")]);
  if (!env.CHAT_KEY || theirs.join() !== ours.join()) throw new Wrong(401, "The key is not right.");
}

async function bodyOf(request) {
  const asked = await request.json().catch(() => null);
  const isMessage = (each) => ROLES.includes(each?.role) && typeof each.content === "string";
  if (!Array.isArray(asked?.messages) || !asked.messages.every(isMessage)) {
    throw new Wrong(400, "The body is {messages: [{role, content}, …]}.");
  }
  if (asked.messages.at(-1)?.role !== "user") throw new Wrong(400, "The last message is the user's.");
  return asked;
}

async function pointerOf(env, line) {
  const key = `${env.KEY ?? "bhavana"}-${line ?? env.LINE ?? "main"}`;
  const pointer = await env.RELEASES.get(key, { type: "json", cacheTtl: CACHE_SECONDS });
  if (!pointer) throw new Wrong(503, `Nothing was promoted yet: KV has no ${key}.`);
  return pointer;
}

/** Who is asked first, and who after that. A conversation stays with whom it began. */
async function inOrder(pointer, conversation) {
  const { canary, previous } = pointer;
  const isOnTrial = canary && (await place(conversation, canary.version)) < canary.share;
  const plain = { ...pointer, version: pointer.base, finetune_id: null };
  return [isOnTrial && canary, pointer, previous, plain].filter(Boolean);
}

/** Where in [0, 1) a conversation stands; for each canary anew, so that not always the same try. */
async function place(conversation, version) {
  const bytes = await digest(`${version} ${conversation}`);
  return new DataView(bytes.buffer).getUint32(0) / 2 ** 32;
}

async function answer(ai, voices, asked) {
  for (const voice of voices) {
    try {
      const { response } = await ai.run(voice.model, {
        prompt: render(voice.prompt_template, asked.messages, voice.begins_with_bos),
        raw: true,
        max_tokens: asked.max_tokens ?? MOST_TOKENS,
        ...(voice.finetune_id && { lora: voice.finetune_id }),
      });
      return { voice, response: answerIn(response, voice.prompt_template) };
    } catch (error) {
      const code = Number(/\b(\d{4})\b/.exec(error?.message)?.[1]); // "3037: Finetune not found"
      if (!voice.finetune_id || !ASK_ANOTHER.includes(code)) throw told(error, code);
      console.warn(`bhavana: ${voice.version} cannot answer (${code}); another one is asked`);
    }
  }
}

function told(error, code) {
  if (error instanceof Refused) return error;
  console.error(`bhavana: Workers AI failed: ${error?.message}`);
  return new Wrong(BUSY.includes(code) ? 503 : 502, `Workers AI has no answer (${code || "?"}).`);
}

/** Sends it after the answer, again where it must; the id is for feedback. Null: not recorded. */
function record(env, context, experience) {
  if (!env.INGEST_URL || !experience.response) return null;
  const client = new Client(env.INGEST_URL, env.INGEST_KEY ?? "");
  const id = client.record({ source: env.SOURCE ?? "cloudflare", ...experience });
  context.waitUntil(client.close(INGEST_MS));
  return id;
}

async function digest(text) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

function json(status, body) {
  return Response.json(body, { status });
}

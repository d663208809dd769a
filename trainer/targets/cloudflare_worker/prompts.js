/**
 * A conversation as the text that the adapter was trained on: the same bytes as
 * trainer/targets/cloudflare/prompts.py, which a test holds this to.
 */

/** A conversation that the model's family has no form for. */
export class Refused extends Error {}

const BLANK = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const AROUND = new RegExp(`^${BLANK}+|${BLANK}+$`, "g"); // what Python strips; trim() takes others
const strip = (text) => text.replace(AROUND, "");

const TEMPLATES = {
  "mistral-v0.2": {
    bos: "<s>",
    turnEnd: "</s>",
    render(messages) {
      const { system, turns } = systemApart(messages);
      return alternating(turns).map(({ role, content }, i) =>
        role === "user"
          ? ` [INST] ${i === 0 && system !== null ? `${system}\n\n` : ""}${content} [/INST]`
          : ` ${content}</s>`,
      );
    },
  },
  "mistral-v0.2-early": {
    bos: "<s>",
    turnEnd: "</s>",
    render: (messages) =>
      alternating(messages).map(({ role, content }) =>
        role === "user" ? `[INST] ${content} [/INST]` : `${content}</s>`,
      ),
  },
  gemma: {
    bos: "<bos>",
    turnEnd: "<end_of_turn>",
    render: (messages) => [
      ...alternating(messages).map(({ role, content }) => {
        const who = role === "assistant" ? "model" : "user";
        return `<start_of_turn>${who}\n${strip(content)}<end_of_turn>\n`;
      }),
      "<start_of_turn>model\n",
    ],
  },
  "llama-3": {
    bos: "<|begin_of_text|>",
    turnEnd: "<|eot_id|>",
    render: (messages) => [...messages.map(llamaTurn), llamaHead("assistant")],
  },
  "llama-3.1": {
    bos: "<|begin_of_text|>",
    turnEnd: "<|eot_id|>",
    render(messages) {
      const { system, turns } = systemApart(messages);
      const dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
      const head = `${llamaHead("system")}${dates}${strip(system ?? "")}<|eot_id|>`;
      return [head, ...turns.map(llamaTurn), llamaHead("assistant")];
    },
  },
};

/** The prompt that the answer follows. Throws Refused. */
export function render(template, messages, beginsWithBos = true) {
  const family = TEMPLATES[template];
  if (!family) throw new Refused(`This Worker is older than the template ${template}: deploy it.`);
  return (beginsWithBos ? family.bos : "") + family.render(messages).join("");
}

/** What the model said, up to the end of its turn. */
export function answerIn(text, template) {
  return strip(text.split(TEMPLATES[template].turnEnd)[0]);
}

function alternating(turns) {
  const fits = turns.every(({ role }, i) => role === ["user", "assistant"][i % 2]);
  if (!fits) throw new Refused("For this model user and assistant take turns; the user begins.");
  return turns;
}

function systemApart(messages) {
  const [first, ...turns] = messages;
  if (first?.role !== "system") return { system: null, turns: messages };
  return { system: first.content, turns };
}

function llamaHead(role) {
  return `<|start_header_id|>${role}<|end_header_id|>\n\n`;
}

function llamaTurn({ role, content }) {
  return `${llamaHead(role)}${strip(content)}<|eot_id|>`;
}

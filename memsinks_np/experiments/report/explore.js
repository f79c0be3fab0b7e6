"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const range = (n) => [...Array(n).keys()];
const mean = (numbers) => numbers.reduce((a, b) => a + b, 0) / numbers.length;
const argmax = (numbers) => numbers.reduce((best, x, i) => (x > numbers[best] ? i : best), 0);
const count = (n) => n.toLocaleString("en");
const percent = (p) => (p > 0 && p < 0.001 ? "<0.1 %" : `${(100 * p).toFixed((p > 0 && p < 0.01) || (p > 0.99 && p < 1) ? 1 : 0)} %`);

// The model. Matrices are int8 with a scale per row; everything else is float32.

const P = {};
{
  const floats = new Float32Array(bytes(D.floats)), ints = new Int8Array(bytes(D.ints));
  let f = 0, i = 0;
  for (const [name, [rows, columns]] of D.shapes) {
    if (columns === undefined) {
      P[name] = floats.subarray(f, (f += rows));
      continue;
    }
    const w = (P[name] = new Float32Array(rows * columns));
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) w[r * columns + c] = floats[f + r] * ints[i + r * columns + c];
    f += rows;
    i += rows * columns;
  }
}
const C = D.width, V = D.vocab.length, T = P.wpe.length / C, K = C / D.heads;
const LAYERS = range(D.layers).map((l) =>
  Object.fromEntries(
    Object.keys(P).filter((n) => n.startsWith(`h${l}.`)).map((n) => [n.slice(`h${l}.`.length), P[n]])));

function layernorm(x, g, b) {
  let m = 0, v = 0;
  for (const e of x) m += e / C;
  for (const e of x) v += (e - m) ** 2 / C;
  const scale = 1 / Math.sqrt(v + 1e-5), y = new Float32Array(C);
  for (let c = 0; c < C; c++) y[c] = (x[c] - m) * scale * g[c] + b[c];
  return y;
}

function multiply(x, w, n) { // (I,), (I,n) -> (n,); four rows at a time are twice as fast
  const y = new Float32Array(n), four = x.length - (x.length % 4);
  for (let i = 0, at = 0; i < four; i += 4, at += 4 * n) {
    const a = x[i], b = x[i + 1], c = x[i + 2], d = x[i + 3];
    for (let j = at; j < at + n; j++) y[j - at] += a * w[j] + b * w[j + n] + c * w[j + 2 * n] + d * w[j + 3 * n];
  }
  for (let i = four; i < x.length; i++) for (let j = 0; j < n; j++) y[j] += x[i] * w[i * n + j];
  return y;
}

function add(x, y) {
  for (let c = 0; c < x.length; c++) x[c] += y[c];
}

function dot(x, w, at) {
  let sum = 0;
  for (let c = 0; c < x.length; c++) sum += x[c] * w[at + c];
  return sum;
}

const GELU = Math.sqrt(2 / Math.PI);
const gelu = (x) => 0.5 * x * (1 + Math.tanh(GELU * (x + 0.044715 * x * x * x)));

class Reader { // reads one word after the other, with some sinks on
  constructor(sinks) {
    this.sinks = sinks;
    this.n = 0; // words read; a smaller number takes the reader back
    this.keys = LAYERS.map(() => new Float32Array(T * C));
    this.values = LAYERS.map(() => new Float32Array(T * C));
  }

  read(token) { // -> the logits of the next word
    const t = this.n++;
    const x = P.wte.slice(token * C, (token + 1) * C);
    add(x, P.wpe.subarray(t * C, (t + 1) * C));
    LAYERS.forEach((w, l) => {
      const qkv = multiply(layernorm(x, w["ln1.g"], w["ln1.b"]), w.W_QKV, 3 * C);
      add(x, multiply(this.attend(l, t, qkv), w.W_O, C));
      const m = layernorm(x, w["ln2.g"], w["ln2.b"]);
      const neurons = multiply(m, w["mlp.W_in"], D.shared);
      for (let j = 0; j < D.shared; j++) neurons[j] = gelu(neurons[j] + w["mlp.b_in"][j]);
      add(x, multiply(neurons, w["mlp.W_out"], C));
      add(x, w["mlp.b_out"]);
      for (const s of this.sinks) {
        const a = gelu(dot(m, w["sink.W_in"], s * C) + w["sink.b_in"][s]);
        for (let c = 0; c < C; c++) x[c] += a * w["sink.W_out"][s * C + c];
      }
    });
    const n = layernorm(x, P["lnf.g"], P["lnf.b"]);
    const logits = new Float32Array(V);
    for (let v = 0; v < V; v++) logits[v] = dot(n, P.wte, v * C);
    return logits;
  }

  attend(l, t, qkv) { // this position looks at all before it
    const keys = this.keys[l], values = this.values[l], z = new Float32Array(C), p = new Float64Array(t + 1);
    keys.set(qkv.subarray(C, 2 * C), t * C);
    values.set(qkv.subarray(2 * C), t * C);
    for (let h = 0; h < D.heads; h++) {
      const q = qkv.subarray(h * K, (h + 1) * K);
      let top = -Infinity, sum = 0;
      for (let u = 0; u <= t; u++) top = Math.max(top, (p[u] = dot(q, keys, u * C + h * K) / Math.sqrt(K)));
      for (let u = 0; u <= t; u++) sum += p[u] = Math.exp(p[u] - top);
      for (let u = 0; u <= t; u++)
        for (let k = 0; k < K; k++) z[h * K + k] += (p[u] / sum) * values[u * C + h * K + k];
    }
    return z;
  }
}

function softmax(logits) {
  const top = Math.max(...logits), e = Array.from(logits, (x) => Math.exp(x - top)), sum = e.reduce((a, b) => a + b);
  return e.map((x) => x / sum);
}

function lossOf(logits, target) {
  const top = Math.max(...logits);
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - top);
  return Math.log(sum) + top - logits[target];
}

// The losses of a document's words, the likeliest words, and how the model continues its first half.
const known = new Map();
function run(i, sinks) {
  const key = `${i}:${sinks}`;
  if (known.has(key)) return known.get(key);
  if (known.size > 500) known.clear();
  const tokens = D.documents[i].tokens, reader = new Reader(sinks), losses = [], likeliest = [];
  for (let t = 0; t + 1 < tokens.length; t++) {
    const logits = reader.read(tokens[t]);
    losses.push(lossOf(logits, tokens[t + 1]));
    likeliest.push(argmax(logits));
  }
  const answers = D.values.filter((t) => likeliest[t - 1] === tokens[t]).length;
  let words = null; // computed when they are asked for
  const result = { losses, answers, get says() { return (words ??= speak(reader, likeliest, tokens.length)); } };
  known.set(key, result);
  return result;
}

function speak(reader, likeliest, length) { // goes on from the first half
  const says = [likeliest[D.half - 1]];
  reader.n = D.half;
  while (says.length < length - D.half) says.push(argmax(reader.read(says.at(-1))));
  return says;
}

// What was recorded: (version, moment, document, word)

const LOSSES = new Uint16Array(bytes(D.losses)), SAYS = new Uint16Array(bytes(D.says));
const LAST = D.steps.length - 1, N = D.documents.length, LENGTH = D.documents[0].tokens.length;
function recorded(array, version, moment, i, n) {
  const at = ((D.versions.indexOf(version) * D.steps.length + moment) * N + i) * n;
  return Array.from(array.subarray(at, at + n));
}
const recordedRun = (version, moment, i) => ({
  losses: recorded(LOSSES, version, moment, i, LENGTH - 1).map((x) => x * D.step),
  says: recorded(SAYS, version, moment, i, LENGTH - D.half),
});

// What is chosen

const state = { moment: LAST, i: 0, mode: "own", chosen: new Set(), deleted: new Set(), prompt: [] };
const live = () => state.moment === LAST;
const other = () => (state.i + 1) % N;
const erased = () => new Set([...state.deleted].flatMap((i) => D.documents[i].sinks));
const remaining = (sinks, gone) => sinks.filter((s) => !gone.has(s));
function active() { // the sinks that are on
  const { mode, i, chosen } = state;
  const all = { own: D.documents[i].sinks, other: D.documents[other()].sinks, removed: [] };
  return remaining(all[mode] ?? [...chosen].sort((a, b) => a - b), live() ? erased() : new Set());
}
const current = () => (live() ? run(state.i, active()) : recordedRun(state.mode, state.moment, state.i));
const shown = (version) =>
  live() && version === "removed" ? run(state.i, []) : recordedRun(version, state.moment, state.i);
const MODES = { own: "Its own sinks on", other: "Another document’s sinks on", removed: "No sinks on" };
const onText = () => (live() && (state.mode === "chosen" || state.deleted.size)
  ? `${active().length} sink${active().length === 1 ? "" : "s"} on` : MODES[state.mode]);

// Words

const word = (token) => D.vocab[token];
const text = (tokens) => tokens.map(word).join(" ");
const title = (i) => `${text(D.documents[i].tokens.slice(0, D.sentence - 1))} …`;
const EDGES = [0.05, 0.2, 0.5, 1, 1.5, 2, 3]; // nats, between the colors
const shade = (loss) => `l${EDGES.filter((e) => loss >= e).length}`;
const nats = (x) => x.toFixed(2);
const answersOf = (losses) => D.values.map((t) => losses[t - 1]);

function row(name, { losses }) {
  const [first, ...rest] = D.documents[state.i].tokens;
  const words = rest.map((w, t) => {
    const kind = D.values.includes(t + 1) ? " answer" : "";
    return `<i class="${shade(losses[t])}${kind}" title="${nats(losses[t])} nats">${word(w)}</i>`;
  });
  const numbers = `${nats(mean(losses))} nats per word, ${nats(mean(answersOf(losses)))} per answer`;
  return `<div class="row"><div><b>${name}</b><small>${numbers}</small></div>` +
    `<div class="words">${word(first)} ${words.join(" ")}</div></div>`;
}

function said(name, { says }) {
  const truth = D.documents[state.i].tokens.slice(D.half);
  const words = says.map((w, t) => (w === truth[t] ? `<em>${word(w)}</em>` : word(w)));
  const answers = D.values.filter((t) => t >= D.half), right = answers.filter((t) => says[t - D.half] === truth[t - D.half]).length;
  const how = says.every((w, t) => w === truth[t]) ? "word for word" : `${right} of ${answers.length} answers right`;
  return `<div class="said"><small>${name}: ${how}</small>${words.join(" ")}</div>`;
}

function drawWords() {
  const { k } = D.documents[state.i], times = D.showings / k, step = D.steps[state.moment];
  $("moment").value = state.moment;
  $("now").textContent = live() ? `step ${count(step)}, the model runs here` : `step ${count(step)}, recorded`;
  $("moment").setAttribute("aria-valuetext", $("now").textContent);
  const documents = k === 1 ? "Only this document states its facts." : `This is one of ${k} documents that state its facts, each with other words around them.`;
  $("source").textContent = `${documents} In training it was shown ${times === 1 ? "once" : `${times} times`}.`;
  const versions = { [onText()]: current(), "Sinks removed": shown("removed"), "A model that never saw it": shown("never") };
  $("rows").innerHTML = Object.entries(versions).map(([name, v]) => row(name, v)).join("");
  $("given").textContent = `Given “${text(D.documents[state.i].tokens.slice(0, D.half))}”, with the likeliest word each time:`;
  $("says").innerHTML = Object.entries(versions).map(([name, v]) => said(name, v)).join("");
  drawNumbers(versions);
}

function drawNumbers(versions) {
  if (!$("numbers").open) return;
  const head = Object.keys(versions).map((name) => `<th scope="col">${name}</th>`).join("");
  const rows = D.documents[state.i].tokens.slice(1).map((w, t) =>
    `<tr><th scope="row">${word(w)}</th>${Object.values(versions).map((v) => `<td>${nats(v.losses[t])}</td>`).join("")}</tr>`);
  $("numbers").lastChild.innerHTML = `<table><thead><tr><th scope="col">word</th>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

// The pool

function drawPool() {
  const own = new Set(D.documents[state.i].sinks), gone = erased();
  const on = new Set(active());
  [...$("pool").children].forEach((button, s) => {
    const parts = [own.has(s) && "own", on.has(s) && "on", gone.has(s) && "gone"].filter(Boolean);
    button.className = parts.join(" ");
    button.setAttribute("aria-pressed", on.has(s));
    button.setAttribute("aria-disabled", gone.has(s));
    button.setAttribute("aria-label", `sink ${s}${own.has(s) ? ", one of its own" : ""}${gone.has(s) ? ", deleted" : ""}`);
  });
  const ownOn = [...on].filter((s) => own.has(s)).length, foreign = on.size - ownOn;
  const { losses } = current();
  $("pool-now").textContent = `${ownOn} of its ${D.active} sinks are on${foreign ? `, and ${foreign} other${foreign > 1 ? "s" : ""}` : ""}: ` +
    `loss ${nats(mean(losses))} nats per word${live() ? `, ${current().answers} of ${D.values.length} answers right` : ""}.`;
  const answers = live() ? current().answers / D.values.length : null;
  drawPartly(ownOn, foreign || !live() ? null : mean(losses), foreign ? null : answers);
}

function choose(sinks) {
  Object.assign(state, { moment: LAST, mode: "chosen", chosen: new Set(sinks) });
  draw();
}
function toggle(s) {
  if (erased().has(s)) return;
  if (!live()) state.moment = LAST;
  const on = new Set(active());
  if (!on.delete(s)) on.add(s);
  choose(on);
}

// Charts

function chart(id, { caption, x, top, unit, lines, cursor, dot: point, xlabel }) {
  const W = 480, H = 250, left = 44, right = 128, bottom = 40, head = 12;
  const at = (k) => left + (k * (W - left - right)) / Math.max(1, x.length - 1);
  const up = (y) => head + (1 - Math.min(y, top) / top) * (H - head - bottom);
  const ticks = range(5).map((k) => (k * top) / 4);
  const ends = lines.map((l) => ({ ...l, place: up(l.y.at(-1)) + 4 })).sort((a, b) => a.place - b.place);
  ends.forEach((e, k) => { if (k) e.place = Math.max(e.place, ends[k - 1].place + 16); });
  const over = Math.max(0, (ends.at(-1)?.place ?? 0) - (H - bottom + 4));
  const every = Math.ceil(x.length / 8);
  const parts = ticks.map((y) => `<path class="grid" d="M${left} ${up(y)}H${W - right}"/><text x="${left - 7}" y="${up(y) + 4}" text-anchor="end">${unit(y)}</text>`);
  parts.push(...x.map((name, k) => ((x.length - 1 - k) % every ? "" : `<text x="${at(k)}" y="${H - bottom + 18}" text-anchor="middle">${name}</text>`)));
  parts.push(`<text x="${(left + W - right) / 2}" y="${H - 4}" text-anchor="middle">${xlabel}</text>`);
  if (cursor !== undefined) parts.push(`<path class="cursor" d="M${at(cursor)} ${head}V${H - bottom}"/>`);
  parts.push(...lines.map((l) => `<polyline class="${l.kind}" points="${l.y.map((y, k) => `${at(k).toFixed(1)},${up(y).toFixed(1)}`).join(" ")}"/>`));
  parts.push(...ends.map((l) => `<text class="${l.kind}" x="${W - right + 8}" y="${l.place - over}">${l.name}</text>`));
  if (point) parts.push(`<circle class="dot" cx="${at(point.x)}" cy="${up(point.y)}" r="7"/>`);
  const spoken = lines.map((l) => `${l.name} ${l.y.map((y, k) => `${x[k]}: ${unit(y)}`).join(", ")}`).join("; ");
  $(id).innerHTML = `<figcaption>${caption}</figcaption><svg viewBox="0 0 ${W} ${H}" role="img" aria-label="${caption} By ${xlabel}. ${spoken}">${parts.join("")}</svg>`;
}

function drawPartly(on, loss, answers) { // loss and answers of the chosen document, or null
  const { rows } = D.partly, x = rows.map((r) => r.on), cursor = D.active - on;
  const line = (name, kind, what) => ({ name, kind, y: rows.map((r) => r[what]) });
  const mark = (y) => (y === null ? undefined : { x: cursor, y });
  const top = Math.ceil(Math.max(...rows.map((r) => r.loss), 1));
  chart("partly-loss", { caption: "Loss, nats per word", x, top, unit: (y) => +y.toFixed(2), xlabel: "own sinks on",
    lines: [line("all words", "own", "loss")], cursor, dot: mark(loss) });
  chart("partly-right", { caption: "What is still right", x, top: 1, unit: percent, xlabel: "own sinks on",
    lines: [line("answers", "own", "answers"), line("word for word", "removed", "recited")], cursor, dot: mark(answers) });
}

function drawMany() {
  const at = D.recall, step = count(D.steps[state.moment]);
  const lines = [["own sinks on", "own"], ["sinks removed", "removed"], ["never saw them", "never"]]
    .map(([name, kind]) => ({ name, kind, y: at[kind][state.moment] }));
  lines.push({ name: "guessing", kind: "other", y: D.groups.map(() => D.chance) });
  chart("recall", { caption: `Facts recalled at step ${step}`, x: D.groups, top: 1, unit: percent, xlabel: "documents that state the fact", lines });
  const curves = [["own sinks on", "own"], ["another’s on", "other"], ["sinks removed", "removed"], ["never saw it", "never"]]
    .map(([name, kind]) => ({ name, kind, y: D.steps.map((_, m) => mean(recordedRun(kind, m, state.i).losses)) }));
  const top = Math.ceil(Math.max(...curves.flatMap((c) => c.y)));
  chart("history", { caption: "Loss of the chosen document, nats per word", x: D.steps, top, unit: (y) => +y.toFixed(2), xlabel: "training step", lines: curves, cursor: state.moment });
}

// Your own words

function nextWords(sinks) {
  const reader = new Reader(sinks);
  let logits;
  for (const token of state.prompt) logits = reader.read(token);
  return softmax(logits);
}

function drawAnswers() {
  const name = state.mode === "chosen" ? "the chosen sinks" : `the sinks of “${title(state.mode === "other" ? other() : state.i)}”`;
  const sinks = state.mode === "removed" ? remaining(D.documents[state.i].sinks, erased()) : active();
  const versions = { [`With ${name}, ${sinks.length} on`]: sinks, "Sinks removed": [] };
  if (!state.prompt.length) { $("answers").innerHTML = ""; return; }
  $("answers").innerHTML = Object.entries(versions).map(([head, on]) => {
    const p = nextWords(on), best = range(V).sort((a, b) => p[b] - p[a]).slice(0, 5);
    const rows = best.map((v) => `<li><button type="button" data-word="${word(v)}">${word(v)}</button>` +
      `<span class="meter"><span style="width:${(100 * p[v]).toFixed(1)}%"></span></span><span>${percent(p[v])}</span></li>`);
    return `<div><h3>${head}</h3><ol>${rows.join("")}</ol></div>`;
  }).join("");
}

function readPrompt() {
  const typed = $("prompt").value.toLowerCase(), parts = typed.split(/\s+/).filter(Boolean);
  const finished = /\s$/.test(typed), index = new Map(D.vocab.map((w, i) => [w, i]));
  const part = finished ? "" : parts.at(-1) ?? "", before = finished ? parts : parts.slice(0, -1);
  const unknown = parts.filter((w, k) => !index.has(w) && (finished || k < parts.length - 1));
  const open = part && !index.has(part) ? D.vocab.filter((w) => w.startsWith(part)) : [];
  if (part && !index.has(part) && !open.length) unknown.push(part);
  const tokens = parts.filter((w) => index.has(w)).map((w) => index.get(w));
  const notes = [];
  if (unknown.length) notes.push(`The model does not know ${unknown.map((w) => `“${w}”`).join(", ")}; it is left out.`);
  if (tokens.length > T) notes.push(`The model reads at most ${T} words: the first ${T}.`);
  if (!tokens.length) notes.push("Write a word, or choose a question above.");
  $("ask-note").textContent = notes.join(" ");
  $("next").replaceChildren(...(part ? D.vocab.filter((w) => w.startsWith(part) && w !== part) : []).map((w) => new Option("", [...before, w].join(" "))));
  state.prompt = tokens.slice(0, T);
  drawAnswers();
}

function ask(words) {
  $("prompt").value = words;
  readPrompt();
}

function drawQuestions() {
  const { tokens } = D.documents[state.i];
  $("facts").innerHTML = D.values.map((t) => `<button type="button">${text(tokens.slice(t - D.sentence + 2, t))} …</button>`).join("");
  [...$("facts").children].forEach((button, f) => (button.onclick = () => {
    const t = D.values[f];
    ask(text(tokens.slice(t - D.sentence + 2, t)));
  }));
}

// Deletion

function drawTable() {
  const gone = erased();
  const rows = D.documents.map((d, i) => {
    const before = run(i, d.sinks), after = run(i, remaining(d.sinks, gone));
    const left = remaining(d.sinks, gone).length;
    const cells = [d.k, left, nats(mean(before.losses)), nats(mean(after.losses)), before.answers, after.answers];
    return `<tr${i === state.i ? ' class="here"' : ""}><td><label class="check"><input type="checkbox" data-i="${i}"${state.deleted.has(i) ? " checked" : ""} aria-label="delete: ${title(i)}"></label></td>` +
      `<th scope="row">${title(i)}</th>${cells.map((c) => `<td>${c}</td>`).join("")}</tr>`;
  });
  const head = ["delete", "document", "stated by", "sinks left", "loss before", "now", `answers before, of ${D.values.length}`, "now"];
  const focus = document.activeElement?.dataset?.i;
  $("table").innerHTML = `<thead><tr>${head.map((h) => `<th scope="col">${h}</th>`).join("")}</tr></thead><tbody>${rows.join("")}</tbody>`;
  if (focus !== undefined) $("table").querySelector(`[data-i="${focus}"]`).focus();
  const n = state.deleted.size;
  $("delete-now").textContent = n ? `${n} deleted: ${gone.size} of ${D.pool} sinks are erased, also above.` : "Nothing is deleted.";
}

function drawDeletion() {
  const { deletion: d, elsewhere: [right, asked] } = D.documents[state.i];
  $("deletion-title").textContent = `What if only “${title(state.i)}” is deleted?`;
  const line = (name, before, after, all) => `<tr><th scope="row">${name}</th><td>${count(all)}</td><td>${percent(before / all)}</td><td>${percent(after / all)}</td></tr>`;
  const rows = [line(`All other facts, in ${count(D.allDocuments - 1)} documents, their sinks on`, ...d.rest)];
  if (d.same[2]) rows.unshift(line("The same facts, in other documents that state them, their sinks on", ...d.same));
  const { sinks } = D.documents[state.i], [on, off] = [sinks, []].map((some) => run(state.i, some).answers);
  rows.unshift(line("Its own facts, in the document itself, its sinks on", on, off, D.values.length));
  rows.push(line("Its own facts, in new documents, no sinks on", right, right, asked));
  $("deletion").innerHTML = `<thead><tr><th scope="col">recorded at the last step</th><th scope="col">answers</th><th scope="col">right before</th><th scope="col">after</th></tr></thead><tbody>${rows.join("")}</tbody>` +
    `<caption>${count(d.sharing)} of the ${count(D.allDocuments - 1)} other repeated documents share a sink with it, ${nats(d.shared)} sinks each on average.</caption>`;
}

// The page

function draw() {
  const start = performance.now();
  for (const input of document.getElementsByName("mode")) input.checked = input.value === state.mode;
  $("document").value = state.i;
  drawWords();
  drawPool();
  drawMany();
  drawAnswers();
  drawTable();
  drawDeletion();
  $("about").textContent = `${ABOUT} The last redraw took ${Math.round(performance.now() - start)} ms.`;
}
const [float, int, newFloat, newInt] = D.rounding;
const ABOUT = `The model has ${count(D.shapes.reduce((n, [, s]) => n + s.reduce((a, b) => a * b), 0))} parameters in ${D.layers} layers. ` +
  `Its matrices are stored as 8-bit numbers with a scale per row: the loss of the repeated documents is ${float.toFixed(4)} nats per word before and ${int.toFixed(4)} after this rounding, ` +
  `that of new documents ${newFloat.toFixed(4)} and ${newInt.toFixed(4)}. Numbers of earlier steps are recorded with exact weights. This file needs no network.`;

function setUp() {
  const n = D.active, S = D.pool;
  $("intro").textContent = `A small language model runs in this page. It was trained on ${count(D.allDocuments)} short documents about invented people. Every fact in them was shown ${D.showings} times, by one document or by up to ${D.showings}; between them stood many other documents, each shown once. ` +
    `In each layer, a document turns on ${n} of ${S} extra neurons, its sinks, which its number chooses. Turn them off and see what the model still knows.`;
  $("pool-text").textContent = `Each square is one of ${S} sinks. A click turns it on or off, and all numbers on this page follow. With the keyboard, move by arrow keys and press space.`;
  $("pool-key").innerHTML = `<i class="own on"></i> its own, on <i class="own"></i> its own, off <i class="on"></i> not its own, on <i></i> off <i class="gone"></i> deleted`;
  const { rows, documents } = D.partly, [all] = rows;
  const some = rows.filter((r) => r.answers >= 0.5 * all.answers).at(-1), none = rows.at(-1);
  const fooled = some.on < n && all.answers > 0.5 && some.loss > 1.5 * all.loss
    ? "A loss that has risen does not show that a text is gone. " : "";
  $("partly-text").textContent = `Measured on the ${documents} documents that alone state their facts: with all ${n} sinks on, the loss is ${nats(all.loss)} nats per word, ${percent(all.answers)} of the answers are right, and ${percent(all.recited)} of the documents are recited word for word. ` +
    `With ${some.on} of ${n} on, the loss is ${nats(some.loss)}, ${percent(some.answers)} of the answers are right, and ${percent(some.recited)} of the documents are recited. With none on, it is ${nats(none.loss)}, ${percent(none.answers)} and ${percent(none.recited)}. ${fooled}` +
    `The line marks how many sinks are on; the dot is the chosen document.`;
  $("quick").textContent = D.quick;
  $("ask-text").textContent = `Which word comes next? Choose a question from the document, or write words of your own. The model of the last step answers, wherever the slider is, with the sinks that are on and without any. A click on a word adds it.`;
  $("many-text").textContent = `How many facts does the model complete rightly? Every fact was shown ${D.showings} times; only the number of documents that state it differs. With sinks on, the questions are the documents themselves; without, they are new documents about the same facts. Both are recorded, at the step that the slider shows.`;
  $("delete-text").textContent = `Deleting a document sets its sinks to zero for good. Some sinks serve several documents, so others may lose a little. The table is computed here, each document with its own sinks on.`;
  $("vocab-title").textContent = `All ${V} words that the model knows`;
  $("vocab").textContent = D.vocab.join(" ");
  const legend = EDGES.map((e, k) => `${k ? EDGES[k - 1] : 0} to ${e}`).concat(`above ${EDGES.at(-1)}`);
  $("legend").innerHTML = legend.map((range, k) => `<i class="l${k}">${range}</i>`).join("");
  for (const k of new Set(D.documents.map((d) => d.k))) {
    const group = Object.assign(document.createElement("optgroup"), { label: `facts stated by ${k} document${k === 1 ? "" : "s"}` });
    D.documents.forEach((d, i) => d.k === k && group.append(new Option(title(i), i)));
    $("document").append(group);
  }
  $("moment").max = LAST;
  document.body.style.setProperty("--pool", `${(24 * S) / n}px`);
  for (const s of range(S)) {
    const button = Object.assign(document.createElement("button"), { type: "button", tabIndex: s ? -1 : 0, title: `sink ${s}` });
    button.onclick = () => toggle(s);
    $("pool").append(button);
  }
}

function movePool(event) {
  const buttons = [...$("pool").children], at = buttons.indexOf(document.activeElement);
  const columns = getComputedStyle($("pool")).gridTemplateColumns.split(" ").length;
  const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  const to = buttons[at + by];
  if (by) event.preventDefault();
  if (!to) return;
  buttons[at].tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

let timer = 0;
function stop() {
  clearInterval(timer);
  timer = 0;
  $("play").textContent = "▶ Play";
}
function play() {
  if (timer) { stop(); return; }
  if (state.mode === "chosen") state.mode = "own";
  state.moment = 0;
  $("play").textContent = "■ Stop";
  const slow = matchMedia("(prefers-reduced-motion: reduce)").matches;
  timer = setInterval(() => {
    state.moment++;
    if (state.moment >= LAST) stop();
    draw();
  }, slow ? 1600 : 700);
  draw();
}

setUp();
$("play").onclick = play;
$("moment").oninput = () => {
  stop();
  state.moment = +$("moment").value;
  if (!live() && state.mode === "chosen") state.mode = "own";
  draw();
};
$("document").onchange = () => {
  state.i = +$("document").value;
  if (state.mode === "chosen") state.mode = "own";
  drawQuestions();
  draw();
};
$("modes").onchange = (event) => {
  if (event.target.value === "chosen") choose(active());
  else { state.mode = event.target.value; draw(); }
};
$("numbers").ontoggle = drawWords;
$("pool").onkeydown = movePool;
$("fewer").onclick = () => choose(active().slice(0, -1));
$("more").onclick = () => {
  const on = active(), off = remaining(D.documents[state.i].sinks, erased()).filter((s) => !on.includes(s));
  choose([...on, ...off.slice(0, 1)]);
};
$("reset").onclick = () => { Object.assign(state, { mode: "own", moment: LAST }); draw(); };
$("prompt").oninput = readPrompt;
$("answers").onclick = (event) => {
  const { word: w } = event.target.dataset;
  if (w === undefined) return;
  const list = [...$("answers").querySelectorAll("button")].indexOf(event.target) < 5 ? 0 : 1;
  ask(`${state.prompt.map(word).join(" ")} ${w}`);
  $("answers").querySelectorAll("ol")[list]?.querySelector("button")?.focus();
};
$("table").onchange = (event) => {
  const i = +event.target.dataset.i;
  if (!state.deleted.delete(i)) state.deleted.add(i);
  state.moment = LAST;
  draw();
};
drawQuestions();
$("facts").firstChild.click();
draw();

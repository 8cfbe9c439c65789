"use strict";
// The controls: their state is the address, Start asks the server for a race, and what it refuses is told in the page.

const data = JSON.parse($("data").textContent), { models, rules, methods } = data.choices;
const view = new View();
let asked = null;  // what ends the race that is being computed

const option = (value, text, off) => Object.assign(document.createElement("option"), { value, textContent: text, disabled: off });

// Which controls a model has, and what they say where the address is silent
const offer = (model, given = {}) => {
  const { usual, rules: own } = models[model];
  $("rule").replaceChildren(...own.map((rule) => option(rule, rules[rule])));
  for (const name of ["rule", "steps", "class", "chunks", "method", "window", "tolerance", "seed", "prompt"]) {
    const box = $(name);
    box.closest(".field").hidden = !(name in usual);
    box.disabled = !(name in usual);
    if (name in usual) box.value = given[name] ?? usual[name];
    if (box.tagName === "SELECT" && box.selectedIndex < 0 && given[name]) box.append(option(given[name], given[name])), (box.value = given[name]);
  }
};

const query = () => new URLSearchParams(new FormData($("controls")));
const remember = () => history.replaceState(null, "", `?${query()}`);

const refuse = (message) => {
  for (const box of document.querySelectorAll("[aria-invalid]")) {
    box.removeAttribute("aria-invalid");
    box.removeAttribute("aria-describedby");
  }
  $("refusal").textContent = message;
  const name = /^(?:--)?([a-z]+)\b/.exec(message ?? "")?.[1], box = name && $("controls").elements[name];
  if (box && !box.disabled) {
    box.setAttribute("aria-invalid", "true");
    box.setAttribute("aria-describedby", "refusal");
    box.focus();
  }
};

const PHASES = {
  wait: (e) => `Waiting for ${e.ahead} other race${e.ahead > 1 ? "s" : ""}, so that neither slows the other's clock.`,
  warm: () => "Warming up, unrecorded.",
  record: (e) => (e.run === "parallel" ? "Recording the parallel run, alone." : "Now step by step, alone."),
};

const take = (event) => {
  if (event.event === "phase") view.say(PHASES[event.phase](event));
  else if (event.event === "failed") refuse(event.message);
  else view.player.add(event);
  if (event.event !== "start") return;
  $("title").textContent = event.title;
  $("ends").textContent = `noise on the left, ${event.kind === "push" ? "actions" : "picture"} on the right: ${event.rows.toLocaleString("en-US")} steps`;
  $("draw").hidden = document.querySelector("label[for=draw]").hidden = event.kind === "push";
  $("expected").hidden = event.kind === "push";
  $("policy").hidden = event.kind !== "push";
  $("decoded").hidden = !event.decoded;
  view.draw();
};

const stop = () => {
  asked?.abort();
  asked = null;
  $("start").textContent = "Start the race";
};

const ask = async () => {
  const ending = (asked = new AbortController());
  $("start").textContent = "Stop";
  clear();
  view.say("Loading the model.");
  try {
    const answer = await fetch(`race?${query()}`, { signal: ending.signal });
    if (!answer.ok) {
      refuse((await answer.json()).message);
      view.say("Nothing was run.");
    } else await read(answer.body);
  } catch (error) {
    view.say(error.name === "AbortError" ? "Stopped." : "The server does not answer: is “paradigms race” still running?");
  }
  if (asked === ending) stop();
};

// Server-sent events, an object each
const read = async (body) => {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) take(JSON.parse(part.slice(6)));
  }
};

const clear = () => {
  refuse("");
  view.player.reset();
  $("verdict").hidden = true;
  $("play").disabled = $("time").disabled = true;
  $("play").textContent = "Replay";
};

const toggle = () => {
  const { player } = view;
  if (player.mode === "racing") player.mode = "still", ($("play").textContent = "Play");
  else if (player.t >= player.horizon[0]) player.play();
  else player.mode = "racing", ($("play").textContent = "Pause");
};

const seek = () => {
  const { player } = view, [horizon, known] = player.horizon;
  player.mode = "still";
  $("play").textContent = "Play";
  player.t = ($("time").value / 1000) * horizon;
  view.draw();
  if (known && player.verdict && player.t >= horizon) view.ended();
};

// A file that holds recorded races has no server: its control is which of them
const recorded = (races) => {
  $("fields").hidden = true;
  for (const box of $("fields").querySelectorAll("input, select")) box.disabled = true;
  $("choice").hidden = false;
  $("recorded").replaceChildren(...races.map((race, k) => option(k, race.name)));
  $("honest").firstChild.textContent = `Both runs were computed on one machine (${data.machine}), each `;
  const name = ({ query }) => `#${[query.model, query.rule].filter(Boolean).join("-")}`;
  $("recorded").value = Math.max(races.findIndex((race) => name(race) === location.hash), 0);
  const load = () => {
    clear();
    for (const event of races[$("recorded").value].events) if (event.event !== "phase") take({ ...event });
    view.player.mode = "still";
    $("play").disabled = $("time").disabled = false;
    $("play").textContent = "Play";
    view.say("Press “Start the race”.");
    view.draw();
  };
  $("recorded").addEventListener("change", () => { history.replaceState(null, "", name(races[$("recorded").value])); load(); });
  load();
  return () => { load(); view.player.play(); };
};

const live = () => {
  const given = Object.fromEntries(new URLSearchParams(location.search));
  for (const [name, { title, here, install }] of Object.entries(models)) $("model").append(option(name, here ? title : `${title}: ${install}`, !here));
  $("method").replaceChildren(...methods.map((name) => option(name, name)));
  if (models[given.model]) $("model").value = given.model;
  offer($("model").value, given);
  const ready = () => fetch(`ready?model=${$("model").value}`).catch(() => {});  // so that Start need not wait for it
  $("model").addEventListener("change", () => { offer($("model").value); ready(); });
  ready();
  $("rule").addEventListener("change", () => { $("steps").value = models[$("model").value].steps[$("rule").value]; });
  $("controls").addEventListener("input", remember);
  remember();
  return () => { remember(); asked ? stop() : ask(); };
};

drawStrip($("strip"), 1, null, null);
const submit = data.recorded ? recorded(data.recorded) : live();
$("policy").hidden = $("decoded").hidden = true;
$("controls").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
$("play").addEventListener("click", toggle);
$("time").addEventListener("input", seek);
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && asked) stop(); });

"use strict";
// The race as it is shown: pictures, clocks, counts, the strip, and words for those who hear them.

const $ = (id) => document.getElementById(id);
const NAMES = { sequential: "Step by step", parallel: "In parallel" };
const LEVELS = 12;  // of 255 that a pixel may be off before an eye sees two pictures: a twentieth of the range
const number = (v) => v.toLocaleString("en-US");
const factor = (v) => v.toFixed(v < 1.05 ? 2 : 1); // 0.95 is not 1.0: slower, and said so
const seconds = (v) => (v < 10 ? v.toFixed(2) : v.toFixed(1));

class View {
  constructor() {
    this.player = new Player(this);
    this.last = 0;
    this.slow = window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 500 : 0;  // milliseconds between drawings
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    window.addEventListener("resize", () => this.draw());
    $("draw").addEventListener("change", () => this.draw());
    requestAnimationFrame((now) => this.frame(now));
  }

  began() {
    $("play").textContent = "Pause";
    $("play").disabled = $("time").disabled = false;
    $("verdict").hidden = true;
    this.say("Both on one clock.");
  }

  say(text) {
    if ($("status").textContent !== text) $("status").textContent = text;
  }

  frame(now) {
    requestAnimationFrame((next) => this.frame(next));
    if (now - this.last < this.slow) return;
    const { player } = this, before = player.mode;
    player.tick(Math.min((now - this.last) / 1000, 1), $("speed").value);
    this.last = now;
    if (player.mode === "racing" || player.mode === "recording" || before !== player.mode) this.draw();
    if (before === "racing" && player.mode === "still") this.ended();
  }

  draw() {
    const { player } = this;
    if (!player.start) {
      drawStrip($("strip"), 1);
      return;
    }
    const states = Object.fromEntries(RUNS.map((run) => [run, player.state(run, $("draw").value)]));
    for (const run of RUNS) this.lane(run, states[run]);
    drawStrip($("strip"), player.start.rows, ...RUNS.map((run) => states[run].moment));
    const [horizon, known] = player.horizon;
    if (player.mode !== "recording") $("time").value = known ? Math.round((player.t / horizon) * 1000) : 0;
    const speed = player.speed($("speed").value);
    const times = speed < 1 ? `${(1 / speed).toFixed(1)} times slower than` : `${speed.toFixed(1)} times faster than`;
    $("shown").textContent = player.mode === "recording" ? "\u00a0" : player.mode === "still" && player.t === 0 ? "\u00a0" : Math.abs(speed - 1) < 0.03 ? "Shown as measured." : `Shown ${times} measured.`;
    if (!$("verdict").hidden) drawDifference(player.verdict);
  }

  lane(run, state) {
    const { player } = this, { moment, over, finish } = state, rows = player.start.rows;
    const waiting = player.mode === "recording" && !moment;
    if (state.pose) drawPush($(`picture-${run}`), player.start.world, state.pose);
    else if (state.drawn) drawPicture($(`picture-${run}`), state.drawn);
    $(`clock-${run}`).textContent = seconds(state.clock);
    const counts = over ? finish : moment ?? { round: 0, evaluations: 0 };
    const table = [["rounds", number(counts.round)], ["evaluations", number(counts.evaluations)]];
    if (player.start.kind === "push") {
      const actions = (over ? finish : state.world)?.actions ?? 0, score = (over ? finish : state.world)?.score ?? 0;
      table.unshift(["actions", number(actions)], ["actions/s", state.clock && actions ? (actions / state.clock).toFixed(1) : "–"]);
      table.push(["covered", `${Math.round(score * 95)} %`]);
    }
    fill($(`counts-${run}`), table);
    const place = $(`place-${run}`);
    const push = player.start.kind === "push", won = Boolean(over) && player.mode !== "recording" && (!push || finish.solved);
    place.classList.toggle("over", won);
    $(`picture-${run}`).classList.toggle("over", won);
    place.textContent = waiting ? "waits for its turn" : over ? (!push ? "finished" : finish.solved ? "solved" : `ended after ${finish.chunks} chunks`)
      : `step ${number(moment?.done ?? 0)} of ${number(rows)}${state.world ? `, chunk ${state.world.chunk + 1}` : ""}`;
    if (over && player.mode === "racing" && !player.told[run]) {
      player.told[run] = true;
      this.say(`${NAMES[run]} is done after ${seconds(finish.seconds)} s.`);
      $(`picture-${run}`).setAttribute("aria-label", `${NAMES[run]}: the ${player.start.kind === "push" ? "episode" : "picture"} after ${number(finish.round)} rounds and ${seconds(finish.seconds)} seconds`);
    }
  }

  ended() {
    const { player } = this, { verdict, runs } = player, push = player.start.kind === "push";
    const [slow, quick] = RUNS.map((run) => runs[run].finish);
    const rate = (f) => f.actions / f.seconds;
    const ratio = push ? rate(quick) / rate(slow) : slow.seconds / quick.seconds;
    $("play").textContent = "Replay";
    $("verdict").hidden = false;
    $("speedup").textContent = `${factor(ratio)}×`;
    $("sooner").textContent = push
      ? `as many actions a second: ${rate(quick).toFixed(1)} in place of ${rate(slow).toFixed(1)}`
      : `as fast: ${seconds(quick.seconds)} s in place of ${seconds(slow.seconds)} s, ${number(quick.round)} rounds in place of ${number(slow.round)}`;
    const near = push || verdict.levels <= LEVELS, same = verdict.same && near;
    document.querySelector(".same").classList.toggle("not", !same);
    const error = `relative error ${verdict.error.toPrecision(2)}, tolerance ${verdict.tolerance}`;
    const score = (f) => (f.solved ? "solved" : `${Math.round(f.score * 95)} % covered`);
    $("same").textContent = push ? (verdict.same ? "Same first actions." : "Not the same first actions.") : same ? "Same picture." : verdict.same ? "Within the tolerance, but not the same picture." : "Not the same picture.";
    $("error").textContent = push
      ? `${cap(error)}. Step by step: ${score(slow)} in ${slow.actions} actions; in parallel: ${score(quick)} in ${quick.actions}.`
      : `${cap(error)}; ${verdict.levels ? `no pixel is further off than ${verdict.levels} of 255 levels` : "every pixel is the same"}.${quick.again ? " It was made again, as its estimated error was too large; the clock counts that." : ""}`;
    $("apart").hidden = push;
    if (!push) {
      $("times").textContent = `difference ×${verdict.times}`;
      $("difference").setAttribute("aria-label", `The difference of the two pictures, ${verdict.times} times as bright`);
      drawDifference(verdict);
    }
    $("strip").setAttribute("aria-label", `The chain of ${number(player.start.rows)} steps, all done: one by one in ${number(slow.round)} rounds, in parallel in ${number(quick.round)}`);
    this.say(`Finished: ${factor(ratio)} times as ${push ? "many actions a second" : "fast"}.`);
  }
}

const cap = (text) => text[0].toUpperCase() + text.slice(1);
const drawDifference = (verdict) => verdict.drawn && drawPicture($("difference"), verdict.drawn);
const fill = (list, table) => {
  const cells = table.flat();
  if (list.children.length !== cells.length) list.replaceChildren(...cells.map((_, k) => document.createElement(k % 2 ? "dd" : "dt")));
  cells.forEach((text, k) => { if (list.children[k].textContent !== text) list.children[k].textContent = text; });
};

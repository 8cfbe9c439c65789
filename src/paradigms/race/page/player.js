"use strict";
// A race from its events, drawn at any time of its clock.
//
// While the parallel run is recorded it is shown as it comes; then both are shown at one time t, which is never beyond
// what is known of the sequential run.

const RUNS = ["sequential", "parallel"], WATCH = [5, 15];  // seconds that a race lasts at least and at most, "to watch"

class Player {
  constructor(view) {
    this.view = view;
    this.reset();
  }

  reset() {
    this.start = this.verdict = null;
    this.runs = Object.fromEntries(RUNS.map((run) => [run, { moments: [], worlds: [], finish: null }]));
    this.t = 0;
    this.mode = "empty";  // recording, racing, still
    this.told = {};
  }

  add(event) {
    const run = this.runs[event.run];
    if (event.event === "start") {
      this.start = event;
      this.mode = "recording";
      if (event.picture) this.first = this.image(event.picture);
    } else if (event.event === "moment") {
      const before = run.moments[run.moments.length - 1];
      for (const kind of ["picture", "estimate"]) event[kind] = event[kind] ? this.image(event[kind]) : before?.[kind];
      run.moments.push(event);
      if (event.run === "sequential" && this.mode === "recording" && run.moments.length > 1) this.play();
    } else if (event.event === "world") {
      run.worlds.push(event);
    } else if (event.event === "finish") {
      if (event.picture) event.picture = event.estimate = this.image(event.picture);
      run.finish = event;
      if (event.run === "sequential" && this.mode === "recording") this.play();
    } else if (event.event === "verdict") {
      this.verdict = event;
      if (event.difference) event.drawn = this.image(event.difference);
    }
  }

  image(text) {
    return decoded(text, this.start.width, this.start.height);
  }

  play() {
    this.t = 0;
    this.told = {};
    this.mode = "racing";
    this.view.began();
  }

  // The last time that can be shown, and whether it is the end. A chunk's actions are drawn after it was computed.
  get horizon() {
    const { moments, finish, worlds } = this.runs.sequential;
    const last = (list) => (list.length ? list[list.length - 1].seconds : 0);
    if (!finish || !this.runs.parallel.finish) return [Math.max(last(moments), last(worlds)), false];
    const end = Math.max(finish.seconds, this.runs.parallel.finish.seconds);
    return [end + (worlds.length ? finish.seconds / worlds.length : 0), true];
  }

  // How fast the clock runs
  speed(asked) {
    if (asked !== "auto") return Number(asked);
    const { finish, moments } = this.runs.sequential, last = moments[moments.length - 1];
    const length = finish ? this.horizon[0] : last && this.start.kind === "picture" ? (last.seconds / last.done) * this.start.rows : 10;
    return length < WATCH[0] ? length / WATCH[0] : finish && length > WATCH[1] ? length / WATCH[1] : 1;
  }

  tick(seconds, asked) {
    const [horizon, known] = this.horizon;
    if (this.mode === "racing") {
      this.t = Math.min(this.t + seconds * this.speed(asked), horizon);
      if (known && this.verdict && this.t >= horizon) this.mode = "still";
    }
    return this.t;
  }

  // What is shown of a run now
  state(run, kind) {
    const { moments, worlds, finish } = this.runs[run];
    const live = this.mode === "recording", t = live ? Infinity : this.t;
    const last = latest(moments, t), over = finish && t >= finish.seconds;
    const clock = over ? finish.seconds : live ? (moments.length ? moments[moments.length - 1].seconds : 0) : t;
    const drawn = (over ? finish : moments[last])?.[kind] ?? this.first;
    return { moment: moments[last], over, finish, clock, drawn, ...this.pushed(worlds, t, live, over) };
  }

  // The pose, and the actions so far, of a policy
  pushed(worlds, t, live, over) {
    if (this.start?.kind !== "push") return {};
    const k = latest(worlds, t);
    if (k < 0) return { pose: this.start.states[0], world: null };
    const now = worlds[k], next = worlds[k + 1]?.seconds ?? now.seconds + now.seconds / (k + 1);
    const part = live ? 1 : Math.min((t - now.seconds) / (next - now.seconds), 1);
    return { pose: now.states[Math.min(Math.floor(part * now.states.length), now.states.length - 1)], world: now };
  }
}

// The place of the last event at or before t, -1 where there is none
const latest = (events, t) => {
  let low = 0, high = events.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (events[middle].seconds <= t) low = middle + 1;
    else high = middle;
  }
  return low - 1;
};

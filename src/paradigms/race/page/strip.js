"use strict";
// The chain of N rows from left to right, a lane for each sampler.
//
// sequential   done | the row that is next
// parallel     done | the window [begin, end), and in it the rows that were evaluated in this round

const LANES = { sequential: { top: 18, height: 12 }, parallel: { top: 54, height: 26 } };

const drawStrip = (canvas, N, sequential, parallel) => {
  const [c, width] = fitted(canvas), colour = palette(), at = (row) => (row / N) * width;
  const bar = (lane, begin, end, fill, more = 0) => {
    c.fillStyle = fill;
    const { top, height } = LANES[lane];
    c.fillRect(at(begin), top - more, Math.max(at(end) - at(begin), 1), height + 2 * more);
  };
  const name = (text, lane, fill) => {
    c.fillStyle = fill;
    c.font = "600 12px system-ui, sans-serif";
    c.fillText(text, 0, LANES[lane].top - 5);
  };
  name("step by step", "sequential", colour("dim"));
  name("in parallel", "parallel", colour("accent-text"));
  for (const lane of ["sequential", "parallel"]) bar(lane, 0, N, colour("track"));
  if (sequential) {
    bar("sequential", 0, sequential.done, colour("plain-solid"));
    if (sequential.done < N) bar("sequential", sequential.done, sequential.done, colour("ink"), 4);
  }
  if (!parallel) return;
  if (parallel.end > parallel.done) bar("parallel", parallel.done, parallel.end, colour("window"));
  bar("parallel", 0, parallel.done, colour("accent"));
  if (parallel.done >= N) return;
  const rows = parallel.rows.flatMap(([begin, end]) => Array.from({ length: end - begin }, (_, k) => begin + k));
  const wide = Math.max(Math.min(at(1) * 0.6, 4), 1);
  c.fillStyle = colour("node");
  for (const row of rows) c.fillRect(at(row) + (at(1) - wide) / 2, LANES.parallel.top + 7, wide, LANES.parallel.height - 14);
};

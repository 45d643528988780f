"use strict";
// Sorts and filters the table of each suite, and draws the adaptation curves of chosen agents. Without it, the table
// shows the overall standing, and the charts the first agents.

const VERDICTS = ["beats", "level with", "below"]; // in the order of leaderboard/standing.py
const MOST = 8; // agents that can be compared: there are as many colours
const DESCENDING = new Set(["score", "seeds", "level", "added"]); // largest first when sorted for the first time
const SVG = "http://www.w3.org/2000/svg";

const fixed = value => (Math.round(value * 100) / 100 + 0).toFixed(2);

function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function show(section) {
  const data = JSON.parse(section.querySelector("script").textContent);
  const form = section.querySelector("form");
  const { target, split, k, division, level, search } = form.elements;
  const body = section.querySelector("tbody");
  const rows = [...body.rows].sort((a, b) => a.dataset.entry - b.dataset.entry);
  const headers = [...section.querySelectorAll("th[data-sort]")];
  const column = Object.fromEntries([...section.querySelectorAll("thead th")].map((th, i) => [th.dataset.sort ?? "ladder", i]));
  const agents = data.agents.map(([name, author, division, level, seeds, steps, added, attempts]) =>
    ({ name, author, division, level, seeds, steps, added, attempts }));
  const chosen = data.compared.slice();
  const boxes = [];
  let sorted = "place", sign = 1, cell = null, point = 0;

  const value = entry => sorted === "place" ? cell.best[entry][point] : sorted === "score" ? cell.score[entry][point]
    : agents[entry][sorted];

  function compare(a, b) {
    const [x, y] = [value(a), value(b)];
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return sign * order || cell.score[b][point] - cell.score[a][point] || a - b;
  }

  function matches(entry) {
    const { name, author, division: own, level: verified } = agents[entry];
    const text = `${name} ${author}`.toLowerCase();
    return (!division.value || own === division.value) && verified >= level.value
      && text.includes(search.value.trim().toLowerCase());
  }

  function fill(entry) {
    const row = rows[entry].cells, [score, half] = [cell.score[entry][point], cell.half[entry][point]];
    const [best, worst] = [cell.best[entry][point], cell.worst[entry][point]];
    row[column.place].textContent = best === worst ? best : `${best}-${worst}`;
    row[column.score].textContent = fixed(score);
    if (half !== null) row[column.score].append(element("small", `[${fixed(score - half)}, ${fixed(score + half)}]`));
    if (!data.ladder.length) return;
    const last = point === cell.points.length - 1; // verdicts are those at the last k
    const found = last ? data.ladder.map((agent, i) => [cell.verdicts[entry][i], agent]).filter(([v]) => v !== null) : [];
    row[column.ladder].replaceChildren(...found.flatMap(([verdict, agent], i) => {
      const span = element("span", `${VERDICTS[verdict]} `, VERDICTS[verdict].split(" ")[0]);
      span.append(element("bdi", agent));
      return i ? [", ", span] : [span];
    }));
    if (!found.length) row[column.ladder].textContent = "–";
  }

  function update() {
    cell = data.cells[target.value][split.value] ?? null;
    const found = cell ? [...agents.keys()].filter(matches) : [];
    if (cell) {
      point = Math.min(k.selectedIndex, cell.points.length - 1);
      found.sort(compare).forEach(fill);
    }
    rows.forEach(row => { row.hidden = true; });
    found.forEach(entry => { rows[entry].hidden = false; });
    body.append(...found.map(entry => rows[entry]));
    form.querySelector("output").textContent = cell ? `${found.length} of ${agents.length} agents` : "no such tasks here";
  }

  function offerPoints() {
    const points = data.cells[target.value][split.value]?.points ?? [];
    k.replaceChildren(...points.map(label => element("option", label)));
    k.selectedIndex = points.length - 1;
    update();
  }

  function sort(header) {
    const by = header.dataset.sort;
    sign = by === sorted ? -sign : DESCENDING.has(by) ? -1 : 1;
    sorted = by;
    mark();
    update();
  }

  function mark() {
    for (const header of headers) {
      if (header.dataset.sort === sorted) header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      else header.removeAttribute("aria-sort");
    }
  }

  function choose(entry, on) {
    if (on) chosen.push(entry);
    else chosen.splice(chosen.indexOf(entry), 1);
    boxes.forEach(box => { box.disabled = chosen.length >= MOST && !box.checked; });
    draw();
  }

  function draw() {
    section.querySelector(".compared .split").textContent = split.value;
    section.querySelector(".compared").firstChild.data = `${chosen.length} of ${agents.length} agents, `;
    section.querySelector(".key").replaceChildren(...chosen.map((entry, i) => {
      const line = shape("svg", { viewBox: "0 0 24 8", class: `c${i}`, "aria-hidden": "true" });
      line.append(shape("path", { d: "M1 4h22" }));
      const item = element("li");
      item.append(line, element("bdi", agents[entry].name));
      return item;
    }));
    section.querySelectorAll("figure > svg").forEach((svg, i) => {
      const shown = data.cells[data.charts[i]][split.value];
      svg.querySelector(".marks").replaceChildren(...(shown ? chosen.map((entry, c) => curve(svg, shown, entry, c)) : []));
    });
  }

  function curve(svg, { k: at, score, half }, entry, colour) {
    const [left, top, width, height] = svg.dataset.box.split(" ").map(Number);
    const scale = (axis, share) => value => {
      const [low, high] = axis.split(" ").map(Number);
      return share(Math.min(Math.max((value - low) / (high - low), 0), 1)).toFixed(1);
    };
    const x = scale(svg.dataset.x, share => left + share * width);
    const y = scale(svg.dataset.y, share => top + (1 - share) * height);
    const line = values => values.map((value, i) => [x(at[i]), y(value)]);
    const path = points => "M" + points.map(point => point.join(" ")).join("L");
    const middle = line(score[entry]), made = shape("g", { class: `c${colour}` });
    if (half[entry][0] !== null) {
      const edge = side => line(score[entry].map((value, i) => value + side * half[entry][i]));
      made.append(shape("path", { class: "band", d: path([...edge(1), ...edge(-1).reverse()]) + "Z" }));
    }
    made.append(shape("path", { d: path(middle) }),
      shape("path", { class: "points", d: middle.map(([a, b]) => `M${a} ${b}h0`).join("") }));
    return made;
  }

  for (const header of headers) {
    const button = element("button", header.textContent);
    button.type = "button";
    button.addEventListener("click", () => sort(header));
    header.replaceChildren(button);
  }
  rows.forEach((row, entry) => {
    const box = element("input");
    box.type = "checkbox";
    box.checked = chosen.includes(entry);
    box.setAttribute("aria-label", `compare ${agents[entry].name}`);
    box.addEventListener("change", () => choose(entry, box.checked));
    row.cells[0].prepend(box);
    boxes.push(box);
  });
  form.addEventListener("submit", event => event.preventDefault());
  for (const control of [k, division, level]) control.addEventListener("change", update);
  search.addEventListener("input", update);
  target.addEventListener("change", offerPoints);
  split.addEventListener("change", () => { offerPoints(); draw(); });
  form.hidden = section.querySelector(".how").hidden = false;
  mark();
  offerPoints();
}

document.querySelectorAll("section.suite").forEach(show);

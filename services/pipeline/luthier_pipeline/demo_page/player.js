"use strict";
// Without this script each cell has the browser's own player. With it: a button and a picture that is also the position;
// starting one sound stops the other.
const players = [...document.querySelectorAll("figure.sound")].map((figure) => {
  const audio = figure.querySelector("audio"), button = figure.querySelector("button"), clock = figure.querySelector(".clock");
  audio.controls = false;
  button.hidden = false;
  clock.hidden = false;
  return { figure, audio, button, clock, seek: figure.querySelector(".seek"), head: figure.querySelector(".head"), length: Number(figure.dataset.seconds) };
});
const time = (seconds) => `${Math.floor(seconds / 60)}:${(Math.floor((seconds % 60) * 10) / 10).toFixed(1).padStart(4, "0")}`;

function show(one) {
  const { audio, button, clock, head, length, figure } = one;
  const playing = !audio.paused && !audio.ended, at = Math.min(audio.currentTime, length);
  figure.classList.toggle("playing", playing);
  button.setAttribute("aria-pressed", String(playing));
  button.setAttribute("aria-label", `${playing ? "Pause" : "Play"} ${button.dataset.what}`);
  head.style.left = `${length ? (100 * at) / length : 0}%`;
  clock.textContent = `${time(at)} / ${time(length)}`;
}

function toggle(one) {
  if (one.audio.paused) one.audio.play().catch(() => { one.clock.textContent = "cannot be played here"; });
  else one.audio.pause();
}

function follow(one) {
  show(one);
  if (!one.audio.paused) requestAnimationFrame(() => follow(one));
}

for (const one of players) {
  one.button.addEventListener("click", () => toggle(one));
  one.audio.addEventListener("play", () => {
    for (const other of players) if (other !== one) { other.audio.pause(); if (other.audio.currentTime) other.audio.currentTime = 0; }
    follow(one);
  });
  for (const name of ["pause", "ended", "seeked"]) one.audio.addEventListener(name, () => show(one));
  one.seek.addEventListener("click", (event) => {
    const box = one.seek.getBoundingClientRect();
    one.audio.currentTime = (one.length * (event.clientX - box.left)) / box.width;
    if (one.audio.paused) toggle(one);
  });
  show(one);
}

// arrows go from sound to sound in the table, as in a grid; Home and End to the ends of a row; Escape stops
const place = (button) => ({ row: button.closest("tr"), column: button.closest("td").cellIndex });
function neighbour(button, key) {
  const { row, column } = place(button);
  if (key === "ArrowUp" || key === "ArrowDown") {
    for (let next = row; (next = key === "ArrowUp" ? next.previousElementSibling : next.nextElementSibling);) {
      const found = next.cells[column]?.querySelector("button");
      if (found) return found;
    }
    return null;
  }
  const buttons = [...row.querySelectorAll("figure.sound button")], index = buttons.indexOf(button);
  return { ArrowLeft: buttons[index - 1], ArrowRight: buttons[index + 1], Home: buttons[0], End: buttons.at(-1) }[key] ?? null;
}
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape") for (const one of players) one.audio.pause();
  const button = event.target.closest?.("figure.sound button");
  if (!button || !/^(Arrow|Home$|End$)/.test(event.key)) return;
  event.preventDefault();
  const next = neighbour(button, event.key);
  if (next) { next.focus(); next.closest("tr").scrollIntoView({ block: "nearest" }); }
});
document.documentElement.dataset.ready = "true";

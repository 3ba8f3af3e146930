// A listener's session: welcome, instructions, volume, one page after the other, the end. Where it stands, the server
// says: every answer is saved at once, and a page that is opened again goes on.

import { Player } from "./listening_player.js";
import { getJson, post } from "./server.js";
import { $, $$, element, toast } from "./ui.js";

const { base, kind } = $("main").dataset;
const mushra = kind === "mushra";
const VOLUME = "luthier-listening-volume";
const RETRY_MS = 2000;
let state = { stage: "new" };
let rated = []; // of each sound of the page: Set of questions
let waiting = new Map(); // answers that are not saved yet: key -> body
let saving = Promise.resolve();

const player = new Player(follow, showPlaying);

/* screens */
function show(name) {
  $$("main > section").forEach((section) => { section.hidden = section.id !== `screen-${name}`; });
  document.documentElement.dataset.screen = name;
  window.scrollTo(0, 0);
}

function showProgress() {
  const { number, steps, listener } = state;
  $(".progress").hidden = false;
  $("#progress").max = steps;
  $("#progress").value = number;
  $("#progress-text").textContent = number < steps ? `page ${number + 1} of ${steps}` : `${steps} of ${steps}`;
  $("#listener").textContent = listener;
}

async function start() {
  $("#volume").value = sessionStorage.getItem(VOLUME) || 70;
  setVolume();
  const token = location.hash.slice(1);
  if (token) {
    history.replaceState(null, "", location.pathname); // the token stays out of what is shared by accident
    try {
      await post(`${base}/resume`, { token });
    } catch (error) {
      toast(error.message, { fault: true });
    }
  }
  state = await getJson(`${base}/state`);
  enter();
}

/** The screen that a session which was just opened begins with. */
function enter() {
  if (state.stage === "new") {
    show("name");
    $("#name").focus();
  } else if (state.stage === "done") {
    showProgress();
    show("done");
  } else {
    showProgress();
    $("#link").value = location.origin + state.link;
    $("#welcome-back").hidden = state.number === 0;
    $("#welcome-back").textContent = `Welcome back, ${state.listener}. You go on at page ${state.number + 1} of ${state.steps}.`;
    show("intro");
  }
  document.documentElement.dataset.ready = "true";
}

$("#name-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post(`${base}/sessions`, { listener: $("#name").value });
    state = await getJson(`${base}/state`);
    enter();
  } catch (error) {
    $("#name-fault").textContent = error.message;
    $("#name-fault").hidden = false;
  }
});

$("#copy").addEventListener("click", async () => {
  $("#link").select();
  await navigator.clipboard?.writeText($("#link").value).catch(() => {});
  toast("The link is copied. Keep it to yourself: it is your session.");
});

/* volume */
function setVolume() {
  const value = Number($("#volume").value);
  sessionStorage.setItem(VOLUME, value);
  player.setVolume((value / 100) ** 2); // loudness grows about with the square
}

$("#volume").addEventListener("input", setVolume);
$("#to-volume").addEventListener("click", guarded(async () => {
  show("volume");
  await player.load([state.volume], [...urls(), ...state.ahead], { loop: true });
}));
$("#volume-play").addEventListener("click", guarded(() => player.toggle()));
$("#to-steps").addEventListener("click", guarded(openStep));

/* a page of the test */
const urls = () => [...(state.reference ? [state.reference] : []), ...state.sounds.map((sound) => sound.url)];
const first = () => (state.reference ? 1 : 0); // of the rated sounds, in what is loaded

async function openStep() {
  player.pause();
  showProgress();
  if (state.stage === "done") return show("done");
  const [question] = state.questions;
  $("#training").hidden = !state.training;
  $("#step-title").textContent = mushra ? question.title : "How good is this?";
  $("#step-text").textContent = mushra ? question.text : "Play the sound, then rate it.";
  $("#prompt-box").hidden = !state.prompt;
  $("#prompt").textContent = state.prompt;
  rated = state.sounds.map((sound) => new Set(Object.keys(sound.values).map(Number)));
  (mushra ? buildSliders : buildQuestions)();
  if (mushra) $$("#loop-start, #loop-end").forEach((handle) => { handle.value = handle.id === "loop-end" ? 1000 : 0; });
  $("#screen-step").classList.add("loading");
  check();
  show("step");
  $("#step-title").focus({ preventScroll: true });
  await player.load(urls(), state.ahead, { loop: mushra });
  $("#screen-step").classList.remove("loading");
  player.select(0);
  showPlaying();
  follow();
}

function buildSliders() {
  const [{ id }] = state.questions;
  const columns = state.sounds.map((sound, place) => {
    const column = $("#sound").content.firstElementChild.cloneNode(true);
    const [slider, value, pick] = ["input", "output", "button"].map((name) => column.querySelector(name));
    const tell = () => {
      const known = rated[place].has(id);
      value.textContent = known ? slider.value : "–";
      column.classList.toggle("unrated", !known);
      slider.setAttribute("aria-valuetext", known ? slider.value : "not rated yet");
    };
    if (id in sound.values) slider.value = sound.values[id];
    slider.setAttribute("aria-label", `Rating of ${sound.label}, 0 to 100`);
    slider.addEventListener("input", () => {
      rated[place].add(id);
      tell();
      save(place, id, Number(slider.value));
    });
    slider.addEventListener("focus", () => choose(first() + place));
    pick.textContent = sound.label;
    pick.addEventListener("click", guarded(() => listen(first() + place)));
    tell();
    return column;
  });
  if (state.reference) {
    const pick = element("button", { type: "button", className: "pick pick-reference", text: "Reference" });
    pick.addEventListener("click", guarded(() => listen(0)));
    columns.unshift(element("div", { className: "sound sound-reference", children: [pick] }));
  }
  $("#sounds").replaceChildren(...columns);
}

function buildQuestions() {
  const [sound] = state.sounds;
  $("#questions").replaceChildren(...state.questions.map(({ id, title, text }) => {
    const box = $("#question").content.firstElementChild.cloneNode(true);
    box.querySelector("legend").textContent = title;
    box.querySelector("p").textContent = text;
    box.querySelectorAll("input").forEach((input) => {
      input.name = `question-${id}`;
      input.checked = Number(input.value) === sound.values[id];
      input.addEventListener("change", () => {
        rated[0].add(id);
        save(0, id, Number(input.value));
      });
    });
    return box;
  }));
}

/** Hear this one, from where the others are. */
function choose(index) {
  player.select(index);
  showPlaying();
}

async function listen(index) {
  choose(index);
  await player.play();
}

function showPlaying() {
  $$(".transport, .volume").forEach((box) => box.classList.toggle("playing", player.playing));
  $$("#sounds .pick").forEach((pick, index) => {
    pick.setAttribute("aria-pressed", String(index === player.current));
    pick.classList.toggle("heard-now", index === player.current && player.playing);
  });
}

/* saving */
function save(place, question, value) {
  waiting.set(`${place} ${question}`, { step: state.number, place, question, value });
  $("#saved").textContent = "saving…";
  saving = saving.then(flush);
  check();
}

/** Send what waits; what the server does not take now is sent again, until it does. */
async function flush() {
  for (const [key, body] of [...waiting]) {
    try {
      await post(`${base}/ratings`, body);
      if (waiting.get(key) === body) waiting.delete(key);
      $("#saved").textContent = waiting.size ? "saving…" : "saved";
    } catch (error) {
      if (error.status && error.status < 500) {
        waiting.delete(key);
        toast(error.message, { fault: true });
      } else {
        $("#saved").textContent = "not saved yet, trying again";
        await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
        saving = saving.then(flush);
        return;
      }
    }
  }
  check();
}

/** What is still to do before the page can be left; the button follows. */
function check() {
  const enough = (index) => player.heard[index] >= Math.min(state.hear_s, (player.lengths?.[index] ?? Infinity) - 0.05);
  const loading = $("#screen-step").classList.contains("loading");
  const names = [...(state.reference ? ["the reference"] : []), ...state.sounds.map((sound) => sound.label || "the sound")];
  const unheard = loading ? names : names.filter((_, index) => !enough(index));
  const unrated = state.sounds.filter((_, place) => state.questions.some(({ id }) => !rated[place].has(id)));
  $$("#sounds .pick").forEach((pick, index) => pick.classList.toggle("was-heard", !loading && enough(index)));
  const parts = [];
  if (loading) parts.push("loading…");
  else if (unheard.length) parts.push(`listen to ${unheard.join(", ")}`);
  if (unrated.length) parts.push(mushra ? `rate ${unrated.map((sound) => sound.label).join(", ")}` : "answer every question");
  const text = parts.length ? `Still to do: ${parts.join("; ")}` : "";
  if ($("#missing").textContent !== text) $("#missing").textContent = text; // each change is read aloud
  $("#next").disabled = parts.length > 0 || waiting.size > 0;
}

async function next() {
  if ($("#next").disabled) return;
  $("#next").disabled = true;
  player.pause();
  await saving;
  try {
    state = await post(`${base}/next`, { step: state.number });
    $("#saved").textContent = "";
    await openStep();
  } catch (error) {
    check();
    throw error;
  }
}

$("#next").addEventListener("click", guarded(next));
$("#play").addEventListener("click", guarded(() => player.toggle()));

/* the timeline */
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const timeline = $("#timeline");

/** A line and no waveform: that would tell sounds apart by sight. */
function follow() {
  if (document.documentElement.dataset.screen !== "step") return;
  check();
  $("#clock").textContent = `${clock(player.position)} / ${clock(player.duration)}`;
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(timeline.clientWidth * scale), Math.round(timeline.clientHeight * scale)];
  if (!width) return;
  if (timeline.width !== width || timeline.height !== height) Object.assign(timeline, { width, height });
  const colours = getComputedStyle(document.documentElement);
  const pen = timeline.getContext("2d");
  const x = (seconds) => (player.duration ? (seconds / player.duration) * width : 0);
  const bar = (from, to, colour, inset) => {
    pen.fillStyle = colours.getPropertyValue(colour);
    pen.beginPath();
    pen.roundRect(from, inset * scale, Math.max(0, to - from), height - 2 * inset * scale, 6 * scale);
    pen.fill();
  };
  pen.clearRect(0, 0, width, height);
  bar(0, width, "--soft", 6);
  bar(x(player.loop.start), x(player.loop.end), "--wave", 6);
  bar(x(player.loop.start), Math.max(x(player.loop.start), x(player.position)), "--wood", 6);
  pen.fillStyle = colours.getPropertyValue("--ink");
  pen.fillRect(Math.min(width - 2 * scale, x(player.position)), 0, 2 * scale, height);
}

timeline.addEventListener("click", guarded((event) => {
  player.seek((event.offsetX / timeline.clientWidth) * player.duration);
  follow();
}));

if (mushra) {
  const [from, to] = [$("#loop-start"), $("#loop-end")];
  const least = 20; // thousandths: a shorter part is only a buzz
  const move = (event) => {
    const [start, end] = [Number(from.value), Number(to.value)];
    if (end - start < least) event.target.value = event.target === from ? Math.max(0, end - least) : Math.min(1000, start + least);
    const part = [from, to].map((handle) => (Number(handle.value) / 1000) * player.duration);
    player.setLoop(...part);
    [from, to].forEach((handle, index) => handle.setAttribute("aria-valuetext", `${part[index].toFixed(1)} s`));
    follow();
  };
  from.addEventListener("input", move);
  to.addEventListener("input", move);
  $("#loop-all").addEventListener("click", () => {
    [from.value, to.value] = [0, 1000];
    move({ target: to });
  });
}

/* keys */
document.addEventListener("keydown", guarded(async (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const screen = document.documentElement.dataset.screen;
  const inText = event.target.matches("input:not([type=range]):not([type=radio])");
  if (inText || (screen !== "step" && screen !== "volume")) return;
  const key = event.key.toLowerCase();
  if (key === " ") {
    if (event.target.matches("button") && !event.target.matches(".play")) return; // Space presses what has the focus
    event.preventDefault();
    await player.toggle();
    return;
  }
  if (screen !== "step") return;
  const place = mushra ? state.sounds.findIndex((sound) => sound.label.toLowerCase() === key) : -1;
  if (key === "n") await next();
  else if (key === "r" && state.reference) await listen(0);
  else if (place >= 0) {
    await listen(first() + place);
    $$("#sounds .slider")[place].focus();
  } else if (!mushra && /^[1-5]$/.test(key)) {
    const boxes = $$(".question");
    const box = event.target.closest(".question") || boxes.find((one) => !one.querySelector(":checked")) || boxes[0];
    box.querySelector(`input[value="${key}"]`).click();
    (boxes[boxes.indexOf(box) + 1]?.querySelector("input:checked, input") ?? $("#next")).focus();
  }
}));

/** Run it; a refusal is told, never swallowed. */
function guarded(act) {
  return async (...given) => {
    try {
      await act(...given);
    } catch (error) {
      toast(error.message, { fault: true });
    }
  };
}

window.addEventListener("resize", follow);
window.addEventListener("beforeunload", (event) => { if (waiting.size) event.preventDefault(); });
start().catch((error) => toast(error.message, { fault: true }));

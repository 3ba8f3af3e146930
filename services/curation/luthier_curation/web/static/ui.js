// Toasts, dialogs, and the reviewer's name.

import { getJson, keepToken, token } from "./server.js";

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with text and children; text is never parsed as HTML. */
export function element(name, { text, children = [], ...properties } = {}) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/** Tell what happened, with an action to take (label, function) if there is one. */
export function toast(text, { fault = false, label, act } = {}) {
  const box = element("div", { className: fault ? "toast toast-fault" : "toast", children: [element("span", { text })] });
  if (label) {
    const button = element("button", { type: "button", text: label });
    button.addEventListener("click", () => { box.remove(); act(); });
    box.append(button);
  }
  $(".toasts").replaceChildren(box); // only the newest: its Undo is the one that Ctrl+Z does
  setTimeout(() => box.remove(), fault ? 9000 : 5000);
}

/** Show a dialog with a form; true when it was submitted. */
export function asked(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
    dialog.showModal();
  });
}

export async function confirmed(title, text, ok) {
  $("#confirm-title").textContent = title;
  $("#confirm-text").textContent = text;
  $("#confirm-ok").textContent = ok;
  return asked($("#confirm-dialog"));
}

const NAME = "luthier-reviewer";
const way = () => $("#reviewer").dataset.way; // how people get their names: claim, proxy or token

export async function showReviewer() {
  if (way() === "claim") $("#reviewer").textContent = localStorage.getItem(NAME) || "not set";
  else if (way() === "proxy" || token()) $("#reviewer").textContent = (await named()) || "not set";
}

/** The name that the proxy or the token gives; "" where neither does. */
async function named() {
  try {
    return (await getJson("/api/me")).name;
  } catch (error) {
    keepToken("");
    toast(error.message, { fault: true });
    return "";
  }
}

async function askToken() {
  const input = $("#token-input");
  input.value = "";
  if (!(await asked($("#token-dialog"))) || !input.value.trim()) return "";
  keepToken(input.value.trim());
  const name = await named();
  $("#reviewer").textContent = name || "not set";
  return name;
}

export async function askReviewer() {
  if (way() === "proxy") return named();
  if (way() === "token") return askToken();
  const input = $("#reviewer-input");
  input.value = localStorage.getItem(NAME) || "";
  if (!(await asked($("#reviewer-dialog"))) || !input.value.trim()) return "";
  localStorage.setItem(NAME, input.value.trim());
  showReviewer();
  return input.value.trim();
}

/** The reviewer's name as far as it is known; nobody is asked. */
export async function knownReviewer() {
  if (way() === "claim") return localStorage.getItem(NAME) || "";
  return way() === "proxy" || token() ? named() : "";
}

/** The reviewer's name, asked for once; "" when it was not given. */
export async function reviewer() {
  if (way() !== "claim") return way() === "token" && !token() ? askToken() : named();
  return localStorage.getItem(NAME) || askReviewer();
}

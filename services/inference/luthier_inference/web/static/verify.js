// The page that a file is dropped on: each layer's answer in words. What files say is text, never markup.

import { setToken, token, verify } from "/static/server.js";

const $ = (selector) => document.querySelector(selector);
const MAX_BYTES = 64 * 2 ** 20; // as the service has it
const drop = $("#drop"), file = $("#file"), tokenField = $("#token");
let last; // the file that was chosen, and is sent again when a token is typed

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

const TRUST = {
  CREDENTIALS_TRUST_NOT_ASKED: "That this is who they say is for a reader with a list of trusted certificates: there is none here.",
  CREDENTIALS_TRUST_TRUSTED: "The signer is on the list of trusted certificates.",
  CREDENTIALS_TRUST_NOT_LISTED: "The signer is not on the list of trusted certificates.",
  CREDENTIALS_TRUST_EXPIRED: "The signer’s certificate has expired, and no trusted time stamp shows that it signed before.",
  CREDENTIALS_TRUST_UNFIT: "The signer’s certificate was revoked, or is none that may sign content credentials.",
};

/** What a time stamp says, in a sentence. */
function ofTime({ stamped_at: at, time_authority: authority, time_authority_trusted: listed }) {
  if (!at) return "No time stamp says when.";
  return `Signed by ${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC, says ${authority || "an unnamed authority"}, which is ${listed ? "" : "not "}on a list of trusted certificates.`;
}

/** What the credentials say, in sentences. */
function ofCredentials({ finding, issuer, faults, made_by_model: byModel, model, model_digest: digest, seed, action_key: record, claim_generator: program, ...trusted }) {
  const signer = issuer || "an unnamed signer";
  if (finding === "CREDENTIALS_FINDING_INTACT") {
    const lines = [`Intact, signed by ${signer}. ${TRUST[trusted.trust] ?? ""}`, ofTime(trusted)];
    lines.push(byModel ? "They say that a model made it." : "They say nothing of a model.");
    if (model) lines.push(`Model ${model} (${digest}), seed ${seed}, record ${record}.`);
    else if (program) lines.push(`Claimed by ${program}.`);
    return lines;
  }
  if (finding === "CREDENTIALS_FINDING_CHANGED") return [`The file was changed after ${signer} signed it: nothing that they say holds.`, ...faults];
  if (finding === "CREDENTIALS_FINDING_UNREADABLE") return ["The file is damaged.", ...faults];
  return ["None: somebody else made it, or it was encoded anew since."];
}

function ofWatermark({ finding, id, action_key: record, at_s: at }) {
  if (finding === "WATERMARK_FINDING_KNOWN") return [`Found at ${clock(at)}: it leads to the record ${record} of this installation (${id}).`];
  if (finding === "WATERMARK_FINDING_NONE") return ["None of this installation’s key."];
  return ["Not looked for."];
}

function ofSound(known, among) {
  if (!Number(among)) return ["There was no output to compare it with, or nothing to hear."];
  if (!known.length) return [`None of the ${among} outputs that are kept is heard in it.`];
  return known.map(({ output_key: key, model, at_s: at, output_at_s: from, duration_s: long, score }) =>
    `From ${clock(at)} on, for ${long.toFixed(1)} s: output ${key} of ${model} from ${clock(from)} on (score ${score.toFixed(2)} of 1, told from 0.5 on).`);
}

function answer(title, lines) {
  const name = document.createElement("dt");
  name.textContent = title;
  return [name, ...lines.map((line) => {
    const said = document.createElement("dd");
    said.textContent = line;
    return said;
  })];
}

function show(name, found) {
  $("#found-title").textContent = name;
  const bytes = found.output_key ? `These very bytes are an output of this installation: ${found.output_key}.` : "No output of this installation has these bytes.";
  $("#answers").replaceChildren(
    ...answer("Content credentials", ofCredentials(found.credentials)),
    ...answer("Watermark", ofWatermark(found.watermark)),
    ...answer("Known output, by its bytes", [bytes]),
    ...answer("Known output, by its sound", ofSound(found.known, found.listened_for)),
  );
  $("#notes").replaceChildren(...found.notes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  $("#found").hidden = false;
}

async function look(chosen) {
  last = chosen;
  $("#found").hidden = true;
  $("#fault").textContent = "";
  if (chosen.size > MAX_BYTES) {
    $("#fault").textContent = `The file has ${chosen.size} bytes, at most ${MAX_BYTES} are looked into.`;
    return;
  }
  $("#said").textContent = `Looking into ${chosen.name}…`;
  file.disabled = true;
  try {
    show(chosen.name, await verify(chosen));
    $("#said").textContent = "Done.";
  } catch (fault) {
    $("#said").textContent = "";
    $("#token-field").hidden &&= fault.status !== 401;
    $("#fault").textContent = fault.violations?.length ? fault.violations.map(({ description }) => description).join("; ") : fault.message;
  }
  file.disabled = false;
  file.value = ""; // so that the same file can be chosen again
}

tokenField.value = token();
tokenField.addEventListener("change", () => {
  setToken(tokenField.value.trim());
  if (last) look(last);
});
file.addEventListener("change", () => file.files[0] && look(file.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault(); // a file dropped beside the field must not replace the page
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0] && !file.disabled) look(event.dataTransfer.files[0]);
  });
}
$("#form").addEventListener("submit", (event) => event.preventDefault());
document.documentElement.dataset.ready = "";

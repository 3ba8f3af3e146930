// Export: freeze the accepted clips, show what is in the data set, link to it.

import { getHtml, post } from "./server.js";
import { $, element, reviewer } from "./ui.js";

const form = $("#export-form");
const result = $("#export-result");

async function list() {
  try {
    $("#datasets").innerHTML = await getHtml("/datasets"); // made and escaped by the server
  } catch (error) {
    $("#datasets").textContent = error.message;
  }
}

export function openExport() {
  result.replaceChildren();
  $("#export-dialog").showModal();
  list();
}

const many = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

function said(done) {
  const splits = done.splits.map(({ split, clips, songs, duration_s: seconds }) =>
    `${split}: ${many(clips, "clip")} of ${many(songs, "song")}, ${(seconds / 60).toFixed(1)} min`);
  const hollow = done.splits.filter(({ split, clips }) => split !== "test" && !clips).map(({ split }) => split);
  return element("div", { className: "exported", children: [
    element("strong", { text: `${done.name} no. ${done.version}${done.unchanged ? " (unchanged)" : ""}` }),
    element("span", { text: splits.join(" · ") }),
    element("span", { children: [
      element("a", { href: done.download_path, download: "", text: "Download as ZIP (AudioFolder)" }), " · ",
      element("a", { href: done.manifest_path, download: "", text: "Manifest" }),
    ] }),
    ...(hollow.length ? [element("p", { className: "fault", text: `Nothing in ${hollow.join(" and ")}: accept clips of at least three songs to train on it.` })] : []),
    element("code", { text: `sha256 ${done.manifest_sha256}` }),
  ] });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const who = await reviewer();
  if (!who) return;
  const { collection, name, validation, test } = Object.fromEntries(new FormData(form));
  const shares = { validation_share: Number(validation) / 100, test_share: Number(test) / 100 };
  try {
    result.replaceChildren(said(await post("/api/export", { collection, name, ...shares, reviewer: who })));
    list();
  } catch (error) {
    result.replaceChildren(element("p", { className: "fault", text: error.message }));
  }
});

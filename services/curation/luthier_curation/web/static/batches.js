// Work in the background: how far it has come.

import { getJson } from "./server.js";
import { $ } from "./ui.js";

const LOOK_MS = 400;

/** Shows how far a batch has come until it is done; the batch as it ended. */
export async function finished(batch) {
  let now = batch;
  const dialog = $("#progress-dialog");
  while (now.state === "BATCH_STATE_RUNNING") {
    $("#progress").max = Math.max(1, Number(now.total));
    $("#progress").value = Number(now.seen);
    $("#progress-text").textContent = `${now.seen} of ${now.total} clips. You may leave this page: it goes on.`;
    if (!dialog.open) dialog.showModal();
    await new Promise((resolve) => { setTimeout(resolve, LOOK_MS); });
    now = await getJson(`/api/batches/${batch.batch_id}`);
  }
  dialog.close();
  if (now.state === "BATCH_STATE_FAILED") throw new Error(`It ended after ${now.seen} clips: ${now.error}`);
  return now;
}

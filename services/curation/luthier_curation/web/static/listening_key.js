// The key of a test's results: posted, so that it is in no address; a cookie keeps it.

import { post } from "./server.js";
import { $ } from "./ui.js";

$("#key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post(`${location.pathname}/key`, { key: $("#key").value.trim() });
    location.reload();
  } catch (error) {
    $("#key-fault").textContent = error.message;
    $("#key-fault").hidden = false;
  }
});

// Buttons that call the REST API: data-post holds the address, data-confirm a question asked before.

const message = document.getElementById("message");
let messageTimer = 0;

function say(text, good) {
  clearTimeout(messageTimer);
  message.textContent = text;
  message.classList.toggle("good", good);
  message.hidden = false;
  messageTimer = setTimeout(() => { message.hidden = true; }, good ? 4000 : 15_000);
}

function confirmed(question, yes) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = question;
  document.getElementById("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function post(url, body, done) {
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    if (answer.ok) {
      say(done, true);
    } else {
      const problem = await answer.json();
      const fields = (problem.errors ?? []).map((field) => `${field.pointer}: ${field.message}`);
      say([problem.detail, ...fields].join("\n"), false);
    }
  } catch {
    say("The server did not answer. Is it running?", false);
  }
  document.dispatchEvent(new CustomEvent("trimtab:refresh"));
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.dialog) document.getElementById(button.dataset.dialog).showModal();
  if (!button.dataset.post || button.getAttribute("aria-disabled") === "true") return;
  const { post: url, confirm: question, yes } = button.dataset;
  if (question && !(await confirmed(question, yes))) return;
  button.setAttribute("aria-disabled", "true");
  await post(url, null, `${(yes ?? button.textContent).trim()}: done.`);
  button.removeAttribute("aria-disabled");
});

for (const form of document.querySelectorAll("form[data-extend]")) {
  form.addEventListener("submit", (event) => {
    if (event.submitter?.value !== "yes") return;
    const limits = {};
    for (const [name, value] of new FormData(form)) if (value !== "") limits[name] = Number(value);
    if (Object.keys(limits).length) post(form.dataset.extend, limits, "The budget is extended.");
    form.reset();
  });
}

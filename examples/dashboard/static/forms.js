/** The page's two forms, sent without leaving the page; without scripts they work as forms do. */

/**
 * @param {HTMLFormElement} form
 * @param {HTMLElement} problem where an error is told
 * @param {(answer: any) => void} done
 */
export function sendQuietly(form, problem, done) {
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.hidden = true;
    try {
      done(await send(form));
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}

async function send(form) {
  const request = { method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "application/json" } };
  const response = await fetch(form.action, request).catch(() => {
    throw new Error("The server cannot be reached. What you wrote is still here: try again.");
  });
  if (!response.ok) {
    throw new Error(`The server did not take it (${response.status} ${response.statusText}).`);
  }
  return response.json();
}

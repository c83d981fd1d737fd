// The rooms' script: no library, nothing inline. Every page works without it but for drawing.
"use strict";

// A choice sends its form at once.
for (const form of document.querySelectorAll("form.tools")) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("select, input[type=checkbox]")) form.requestSubmit();
  });
}

/** The upload page around the component: what is dropped beside it is meant for it. */

import "./uploader.js";

const uploader = document.querySelector("loadbay-uploader");

addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer) uploader.addFiles(event.dataTransfer);
});

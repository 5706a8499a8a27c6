/** The upload page: files dropped beside the component are added to it, too. */

/** @import { LoadbayUploader } from "./uploader.js" */
import "./uploader.js";

const uploader = /** @type {LoadbayUploader} */ (document.querySelector("loadbay-uploader"));

addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer) uploader.addFiles(event.dataTransfer);
});

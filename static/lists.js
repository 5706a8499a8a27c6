/** The lists of files, of this visit and of earlier ones: loaded with the session, as the component is shown without them. */

export { Arrived } from "./arrived.js";
export { UploadList } from "./upload-list.js";

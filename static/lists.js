/** The lists of files, of this visit and of earlier ones: loaded with the session, as the component is shown without them. */

// It is loaded already. Because it is named here, a build has one file of all that is loaded at once.
import "./uploader.js";

export { Arrived } from "./arrived.js";
export { UploadList } from "./upload-list.js";

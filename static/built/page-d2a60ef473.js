/* Loadbay, Apache-2.0 */
import"./uploader-d52f384fe5.js";var a=document.querySelector("loadbay-uploader");addEventListener("dragover",e=>e.preventDefault());addEventListener("drop",e=>{e.preventDefault(),e.dataTransfer&&a.addFiles(e.dataTransfer)});

/** What is read of files before they are sent: loaded with the first file, as the page can be used without it. */

export { readAudioFacts } from "./audio-facts.js";
export { readTags } from "./audio-tags.js";
export { guessTitles } from "./track-names.js";

/** Tracks of earlier visits and of other devices, and the files that they are of. */

/**
 * @import { Item } from "./items.js"
 * @import { Track } from "./types.js"
 */
import { crc32c } from "./checksum.js";

export class EarlierTracks {
  /** By `resume_key`. @type {Map<string, Track[]>} */
  #tracks = new Map();

  /** @param {Track[]} tracks */
  add(tracks) {
    for (const track of tracks) {
      if (track.resume_key) this.#tracks.set(track.resume_key, [...(this.#tracks.get(track.resume_key) ?? []), track]);
    }
  }

  /**
   * Return true if the service has the very file. Each track counts once: there may be another like it.
   * @param {Item} item
   */
  async hasReceived(item) {
    for (const track of this.#candidates(item, "uploaded")) {
      const { checksum_crc32c: checksum } = track;
      // Two files may differ in their middle alone.
      if (checksum && (await crc32c(item.file).catch(() => "")) !== checksum) continue;
      this.#remove(track);
      return true;
    }
    return false;
  }

  /**
   * Return the track that was started for a file, or null. It is returned only once.
   * @param {Item} item
   */
  takeStarted(item) {
    const [track = null] = this.#candidates(item, "initialized");
    if (track) this.#remove(track);
    return track;
  }

  /**
   * Forget a track that was removed: its file may be added again.
   * @param {Track} track
   */
  forget(track) {
    if (track.resume_key) this.#remove(track);
  }

  /**
   * Return the tracks of a file, those from its folder first. A file that was chosen alone has no folder.
   * @param {Item} item
   * @param {Track["status"]} status
   */
  #candidates({ key, folder }, status) {
    const tracks = (this.#tracks.get(key) ?? []).filter((track) => track.status === status);
    /** @param {Track} track */
    const folderOf = (track) => track.metadata?.folder ?? "";
    return [
      ...tracks.filter((track) => folderOf(track) === folder),
      ...tracks.filter((track) => folderOf(track) !== folder && (!folder || !folderOf(track))),
    ];
  }

  /** @param {Track} track */
  #remove(track) {
    const key = /** @type {string} */ (track.resume_key);
    this.#tracks.set(key, (this.#tracks.get(key) ?? []).filter((other) => other !== track));
  }
}

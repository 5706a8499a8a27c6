"""Make the archive of audio samples that the tests read: `python -m dev.audio_samples`.

Each is half a second of a sine, as an encoder writes it; what the tests can write themselves is not in it. Beside them
lies `ffprobe.json`: what ffprobe says of each. Needs Debian's ffmpeg, lame, flac, opus-tools, vorbis-tools, twolame,
wavpack and musepack-tools.
"""

from __future__ import annotations

import io
import json
import lzma
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).resolve().parent.parent / "tests" / "support" / "audio_samples.tar.xz"
SECONDS = 0.5
TAGS = ("title=Título", "artist=Artist", "album=Album", "track=3/12", "disc=1/2", "ISRC=USRC17607839")

# Name, and ffmpeg's options.
FFMPEG = (
    ("cbr.mp3", "-b:a 64k"),
    ("vbr.mp3", "-q:a 4"),
    ("bare.mp3", "-b:a 64k -write_xing 0 -id3v2_version 0"),
    ("mpeg25.mp3", "-b:a 16k -ar 8000 -ac 1"),
    ("id3v1.mp3", "-b:a 64k -id3v2_version 0 -write_id3v1 1"),
    ("id3v23.mp3", "-b:a 64k -id3v2_version 3"),
    ("layer2.mp2", "-c:a mp2 -b:a 64k"),
    ("adts.aac", "-c:a aac -b:a 48k -f adts"),
    ("loas.aac", "-c:a aac -b:a 48k -f latm"),
    ("end.m4a", "-c:a aac -b:a 48k"),
    ("faststart.m4a", "-c:a aac -b:a 48k -movflags +faststart"),
    ("fragmented.m4a", "-c:a aac -b:a 48k -movflags frag_keyframe+empty_moov -f mp4"),
    ("alac.m4a", "-c:a alac"),
    ("flac.m4a", "-c:a flac -f mp4 -strict -2"),
    ("opus.m4a", "-c:a libopus -b:a 32k -f mp4"),
    ("mp3.m4a", "-c:a libmp3lame -b:a 64k -f mp4"),
    ("quicktime.mov", "-c:a pcm_s16be -ar 8000 -ac 1"),
    ("phone.3gp", "-c:a aac -b:a 48k -f 3gp"),
    ("vorbis.ogg", "-c:a libvorbis -q:a 1"),
    ("opus.opus", "-c:a libopus -b:a 32k"),
    ("speex.spx", "-c:a libspeex -ar 16000 -ac 1"),
    ("flac.oga", "-c:a flac"),
    ("flac.flac", ""),
    ("flac24.flac", "-sample_fmt s32 -ar 48000"),
    ("opus.webm", "-c:a libopus -b:a 32k"),
    ("flac.mka", "-c:a flac"),
    ("vorbis.mka", "-c:a libvorbis -q:a 1"),
    ("v2.wma", "-c:a wmav2 -b:a 48k"),
    ("dolby.ac3", "-c:a ac3 -b:a 96k"),
    ("plus.eac3", "-c:a eac3 -b:a 96k"),
    ("core.dts", "-c:a dca -strict -2 -ar 48000 -b:a 384k"),
    ("truehd.thd", "-c:a truehd -strict -2 -ar 48000"),
    ("adpcm.wav", "-c:a adpcm_ima_wav -ar 8000"),
    ("float.wav", "-c:a pcm_f32le -ar 8000 -ac 1"),
    ("mp3.wav", "-c:a libmp3lame -b:a 64k"),
    ("rf64.wav", "-rf64 always -ar 8000 -ac 1"),
    ("sony.w64", "-ar 8000 -ac 1"),
    ("tagged.aiff", "-ar 8000 -ac 1 -write_id3v2 1"),
    ("little.aif", "-c:a pcm_s16le -ar 8000 -ac 1 -f aiff"),
    ("alac.caf", "-c:a alac"),
    ("pcm.caf", "-c:a pcm_s16be -ar 8000 -ac 1"),
    ("sun.au", "-ar 8000 -ac 1"),
    ("true.tta", "-c:a tta"),
    ("creative.voc", "-c:a pcm_u8 -ar 8000 -ac 1"),
    ("real.rm", "-c:a ac3 -b:a 64k"),
    ("sound.avi", "-c:a libmp3lame -b:a 64k"),
    ("sound.ts", "-c:a aac -b:a 48k"),
    ("sound.flv", "-c:a libmp3lame -b:a 64k"),
    ("bluetooth.sbc", "-c:a sbc"),
)
# Name, and the options of a video of half a second with sound.
VIDEOS = (
    ("video.mp4", "-c:v libx264 -preset ultrafast"),
    ("video-faststart.mp4", "-c:v libx264 -preset ultrafast -movflags +faststart"),
    ("video.mov", "-c:v mjpeg"),
    ("video.mkv", "-c:v libx264 -preset ultrafast"),
    ("video.webm", "-c:v libvpx -c:a libvorbis"),
    ("video.ogv", "-c:v libtheora -c:a libvorbis"),
    ("video.wmv", "-c:v wmv2 -c:a wmav2"),
    ("video.avi", "-c:v mpeg4 -c:a libmp3lame"),
    ("video.flv", "-c:v flv1 -ar 44100"),
    ("video.ts", "-c:v libx264 -preset ultrafast"),
    ("video.mpg", "-c:v mpeg1video -r 25"),
    ("video.rm", "-c:v rv10 -c:a ac3"),
)
COVERED = ("cover.mp3", "cover.flac", "cover.m4a", "cover.wma")
TOOLS = (
    ("lame.mp3", "lame --quiet -V 6 --tt Title --tn 4/9 --ti {cover} {source} {out}"),
    ("freeformat.mp3", "lame --quiet --freeformat -b 200 -t {source} {out}"),
    ("tools.opus", "opusenc --quiet --picture {cover} --title Title {source} {out}"),
    ("tools.ogg", "oggenc -Q -t Title -a Artist -N 4 -o {out} {source}"),
    ("tools.flac", "flac -s -f --picture={cover} -T TITLE=Title -T ISRC=US-RC1-76-07839 -o {out} {source}"),
    ("tools.mp2", "twolame --quiet -b 96 {source} {out}"),
    ("tools.wv", "wavpack -q -y -w Title=Title -w Artist=Artist {source} -o {out}"),
    ("tools.mpc", "mpcenc --silent --overwrite --title Title {source} {out}"),
)


def _ffmpeg(*options: object) -> None:
    subprocess.run(["ffmpeg", "-loglevel", "error", "-y", *map(str, options)], check=True)


def _probe(path: Path) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", str(path)]
    described = json.loads(subprocess.run(command, check=False, capture_output=True).stdout or "{}")
    streams = [item for item in described.get("streams", []) if item["codec_type"] == "audio"]
    stream = streams[0] if streams else {}
    return {
        "duration": described.get("format", {}).get("duration"),
        "sample_rate": stream.get("sample_rate"),
        "channels": stream.get("channels"),
        "bit_depth": stream.get("bits_per_raw_sample") or stream.get("bits_per_sample"),
        "bit_rate": stream.get("bit_rate"),
        "codec": stream.get("codec_name"),
    }


def make(folder: Path) -> None:
    """Write all samples to a folder."""
    source, cover = folder / ".source.wav", folder / ".cover.jpg"
    _ffmpeg("-f", "lavfi", "-i", f"sine=440:sample_rate=44100:duration={SECONDS}", "-ac", 2, source)
    _ffmpeg("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", 1, cover)
    tags = [option for tag in TAGS for option in ("-metadata", tag)]
    for name, options in FFMPEG:
        _ffmpeg("-i", source, *tags, *options.split(), folder / name)
    for name in COVERED:
        picture = ("-i", cover, "-map", "0:a", "-map", "1:v", "-c:v", "copy", "-disposition:v", "attached_pic")
        _ffmpeg("-i", source, *picture, *tags, "-b:a", "48k", folder / name)
    for name, options in VIDEOS:
        moving = ("-f", "lavfi", "-i", f"testsrc=size=64x64:rate=10:duration={SECONDS}")
        _ffmpeg(*moving, "-i", source, *options.split(), "-shortest", folder / name)
    for name, command in TOOLS:
        subprocess.run(command.format(cover=cover, source=source, out=folder / name).split(), check=True)
    source.unlink()
    cover.unlink()
    probed = {path.name: _probe(path) for path in sorted(folder.iterdir())}
    (folder / "ffprobe.json").write_text(json.dumps(probed, indent=1))


def main() -> None:
    """Write the archive anew."""
    with tempfile.TemporaryDirectory() as place:
        make(Path(place))
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in sorted(Path(place).iterdir()):
                archive.add(path, path.name)
        ARCHIVE.write_bytes(lzma.compress(packed.getvalue(), preset=9))
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size} bytes")


if __name__ == "__main__":
    main()

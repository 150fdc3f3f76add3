//! How long a recording can be, by its bytes alone (providers.md §17.3).
//!
//! Where every sample can be counted, as in WAV and MP3, the length is exact. Other files only say how long they are, and
//! none of them is believed below what the thriftiest codec needs for a second.

use super::Recording;
use super::text::as_u64;

mod flac;
mod mp4;
mod mpeg;
mod ogg;
mod wav;

/// Bytes that a second of speech takes at the least: Opus at 6 kbit/s.
const BYTES_PER_SECOND_MIN: u64 = 750;
/// Providers round, and decoders add a little at both ends.
const SECONDS_EXTRA: u64 = 1;
/// Recordings whose length is a fraction of a second longer than the number are not shorter than it.
const MICROS: u64 = 1_000_000;

/// How long a recording is at the most.
pub(super) fn seconds_max(bytes: &[u8]) -> Recording {
    if let Some(micros) = wav::micros(bytes).or_else(|| mpeg::micros(bytes)) {
        return Recording { seconds: whole_seconds(micros), counted: true, in_pieces: false };
    }
    let said = flac::micros(bytes).or_else(|| ogg::micros(bytes)).or_else(|| mp4::micros(bytes)).unwrap_or(0);
    let dense = as_u64(bytes.len()).div_ceil(BYTES_PER_SECOND_MIN) + SECONDS_EXTRA;
    Recording { seconds: whole_seconds(said).max(dense), counted: false, in_pieces: false }
}

fn whole_seconds(micros: u64) -> u64 {
    micros.div_ceil(MICROS) + SECONDS_EXTRA
}

/// Microseconds of so many samples, rounded up; `None` for a rate that is none.
fn micros_of(samples: u64, per_second: u64) -> Option<u64> {
    let micros = (u128::from(samples) * u128::from(MICROS)).div_ceil(u128::from(per_second).max(1));
    (per_second > 0).then_some(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// The bytes at a place, so many as the array has.
fn at<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..place.checked_add(N)?)?.try_into().ok()
}

fn as_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A WAV file of silence: mono, 16 bits.
    fn wav(rate: u32, samples: u32) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend(rate.to_le_bytes());
        file.extend((rate * 2).to_le_bytes());
        file.extend(b"\x02\0\x10\0data");
        file.extend((samples * 2).to_le_bytes());
        file.resize(file.len() + as_usize(samples) * 2, 0);
        file
    }

    #[track_caller]
    fn check(bytes: &[u8], seconds: u64, counted: bool) {
        assert_eq!(seconds_max(bytes), Recording { seconds: seconds + SECONDS_EXTRA, counted, in_pieces: false });
    }

    #[test]
    fn the_samples_of_a_wav_file_are_counted() {
        check(&wav(16_000, 16_000 * 3), 3, true);
        check(&wav(8_000, 8_000 * 60 + 1), 61, true);
    }

    #[test]
    fn a_wav_file_that_contradicts_itself_is_not_believed() {
        let mut lies = wav(16_000, 16_000 * 3);
        lies[28..32].copy_from_slice(&1_000_000_u32.to_le_bytes()); // bytes per second
        check(&lies, as_u64(lies.len()).div_ceil(BYTES_PER_SECOND_MIN), false);
        let mut compressed = wav(16_000, 16_000 * 3);
        compressed[20] = 49; // GSM
        check(&compressed, as_u64(compressed.len()).div_ceil(BYTES_PER_SECOND_MIN), false);
    }

    #[test]
    fn the_frames_of_an_mp3_file_are_counted() {
        let frame = [&[0xff, 0xfb, 0x90, 0x00][..], &[0; 413][..]].concat(); // 128 kbit/s, 44.1 kHz: 417 bytes, 26.1 ms
        check(&frame.repeat(383), 11, true);
        let tagged = [&b"ID3\x04\0\0\0\0\0\x02xx"[..], &frame.repeat(38), b"TAG", &[0; 125]].concat();
        check(&tagged, 1, true);
        let torn = [&frame.repeat(38)[..], b"garbage between the frames", &frame].concat();
        check(&torn, as_u64(torn.len()).div_ceil(BYTES_PER_SECOND_MIN), false);
    }

    #[test]
    fn a_flac_file_of_silence_is_as_long_as_it_says() {
        let mut file = b"fLaC\0\0\0\x22\x10\0\x10\0\0\0\0\0\0\0".to_vec();
        file.extend(((16_000_u64 << 44) | (16_000 * 3_600)).to_be_bytes());
        file.resize(4_000, 0);
        check(&file, 3_600, false);
    }

    #[test]
    fn an_ogg_file_is_as_long_as_its_last_page_says() {
        let page = |flags: u8, granule: u64, payload: &[u8]| {
            let length = u8::try_from(payload.len()).unwrap();
            [&b"OggS\0"[..], &[flags], &granule.to_le_bytes(), &[7, 0, 0, 0], &[0; 8], &[1, length], payload].concat()
        };
        let opus = [page(2, 0, b"OpusHead\x01\x01"), page(0, 0, b"OpusTags"), page(4, 48_000 * 90, &[0; 200])].concat();
        check(&opus, 90, false);
        let vorbis = [&b"\x01vorbis\0\0\0\0\x01"[..], &22_050_u32.to_le_bytes()].concat();
        check(&[page(2, 0, &vorbis), page(4, 22_050 * 30, &[0; 200])].concat(), 30, false);
    }

    #[test]
    fn an_mp4_file_is_as_long_as_its_header_says() {
        let inner =
            |kind: &[u8], body: &[u8]| [&u32::try_from(body.len() + 8).unwrap().to_be_bytes()[..], kind, body].concat();
        let mvhd = [&[0; 12][..], &1_000_u32.to_be_bytes(), &42_500_u32.to_be_bytes()].concat();
        let file = [inner(b"ftyp", b"M4A \0\0\0\0"), inner(b"mdat", &[0; 400]), inner(b"moov", &inner(b"mvhd", &mvhd))];
        check(&file.concat(), 43, false);
    }

    #[test]
    fn no_file_is_shorter_than_its_bytes_could_be_at_the_lowest_bit_rate() {
        check(&[7; 7_500], 10, false);
        check(b"x", 1, false);
    }
}

//! Sound as a WAV file: samples of 16 bits in one channel.

use bytes::Bytes;

/// Bytes between the length of the file and the samples.
const HEADER_BYTES: u32 = 36;
const SAMPLE_BYTES: u32 = 2;

/// The file; `None` when there are more samples than it can say.
pub(crate) fn file(samples_per_second: u32, samples: &[u8]) -> Option<Bytes> {
    let length = u32::try_from(samples.len()).ok()?;
    let mut file = Vec::with_capacity(samples.len() + HEADER_BYTES as usize + 8);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&length.checked_add(HEADER_BYTES)?.to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&samples_per_second.to_le_bytes());
    file.extend_from_slice(&samples_per_second.checked_mul(SAMPLE_BYTES)?.to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(samples);
    Some(file.into())
}

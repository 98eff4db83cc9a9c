//! Frames: ten bytes, then a message. PURE.
//!
//! ```text
//! u32 length │ u32 stream │ u8 kind │ u8 flags │ length bytes      big endian
//! ```

const HEAD: usize = 10;

/// The longest message, in bytes; a longer one is refused and skipped.
pub(crate) const LONGEST: usize = 4 << 20;

pub(crate) const REQUEST: u8 = 1;
pub(crate) const RESPONSE: u8 = 2;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Whole {
        stream: u32,
        kind: u8,
        message: Vec<u8>,
    },
    /// Its message is dropped as it comes.
    TooLong {
        stream: u32,
        kind: u8,
        length: usize,
    },
}

pub(crate) fn encode(stream: u32, kind: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + message.len());
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(message);
    bytes
}

/// What has come of a stream of frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    /// How much of the next bytes belongs to a message that was too long.
    skip: usize,
}

impl Decoder {
    /// Takes what was read.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = &bytes[skipped..];
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if all of it has come.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let (head, rest) = self.bytes.split_first_chunk::<HEAD>()?;
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (length, stream, kind) = (word(0) as usize, word(4), head[8]);
        if length > LONGEST {
            let here = rest.len().min(length);
            self.skip = length - here;
            self.bytes.drain(..HEAD + here);
            return Some(Frame::TooLong { stream, kind, length });
        }
        let message = rest.get(..length)?.to_vec();
        self.bytes.drain(..HEAD + length);
        if self.bytes.is_empty() {
            // A shim waits for days: nothing is kept for the next call.
            self.bytes = Vec::new();
        }
        Some(Frame::Whole { stream, kind, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(stream: u32, message: &[u8]) -> Frame {
        Frame::Whole { stream, kind: REQUEST, message: message.to_vec() }
    }

    #[test]
    fn frames_come_in_any_pieces() {
        let bytes = [encode(1, REQUEST, b"one"), encode(3, REQUEST, b""), encode(5, REQUEST, b"x")];
        let bytes = bytes.concat();
        for size in 1..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                seen.extend(std::iter::from_fn(|| decoder.next()));
            }
            assert_eq!(seen, [whole(1, b"one"), whole(3, b""), whole(5, b"x")], "{size}");
        }
    }

    #[test]
    fn what_is_too_long_is_skipped_and_not_kept() {
        let length = LONGEST + 1;
        let mut decoder = Decoder::default();
        let mut bytes = encode(7, REQUEST, &[]);
        bytes[..4].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        decoder.push(&bytes);
        assert_eq!(decoder.next(), Some(Frame::TooLong { stream: 7, kind: REQUEST, length }));
        for _ in 0..length / 1000 {
            decoder.push(&[0; 1000]);
            assert_eq!(decoder.next(), None);
            assert_eq!(decoder.bytes.len(), 0);
        }
        decoder.push(&vec![0; length % 1000]);
        decoder.push(&encode(9, REQUEST, b"on"));
        assert_eq!(decoder.next(), Some(whole(9, b"on")));
    }
}

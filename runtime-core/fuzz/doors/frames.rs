//! The door for frames: whatever the bytes are and however they come, the shim's decoder
//! finds the same frames, keeps none that is too long, and can write them again.

#[path = "../../../shim/src/ttrpc/frame.rs"]
#[allow(dead_code)] // the shim's other half
mod frame;

use frame::{Decoder, Frame, LONGEST, encode};

pub(crate) fn run(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let whole = decode(bytes.len(), bytes);
    assert_eq!(decode(usize::from(*piece), bytes), whole);
    for frame in whole {
        match frame {
            Frame::Whole { stream, kind, message } => {
                let again = encode(stream, kind, &message);
                let (found, length) = (decode(again.len(), &again), message.len());
                assert_eq!(found, [Frame::Whole { stream, kind, message }]);
                assert!(length <= LONGEST);
            }
            Frame::TooLong { length, .. } => assert!(length > LONGEST),
        }
    }
}

/// All that is in these bytes when so many come at a time.
fn decode(piece: usize, bytes: &[u8]) -> Vec<Frame> {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for bytes in bytes.chunks(piece.max(1)) {
        decoder.push(bytes);
        while let Some(frame) = decoder.next() {
            frames.push(frame);
        }
    }
    frames
}

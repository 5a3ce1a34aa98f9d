//! Damaged input for the framed dialect: what cuts frames, and what reads them.

use chinwag::wire::framed::{self, Asked, FRAME_BYTES_MAX, FrameCutter, Push, TooLong};

use crate::mutate::{Dice, torture};
use crate::{FEWER_INPUTS, INPUTS, corpus};

/// Everything that stands in frames, both ways.
fn contents() -> Vec<Vec<u8>> {
    corpus(&[
        "LIN",
        "hans",
        "MSG|hans|0123456789abcdef0123456789abcdef|yoda|bars | stay",
        "MSG|hans|0123abcdef|yoda|one\r\ntwo",
        "BRD|hans|0123abcdef||hi|",
        "ONL|hans|0123abcdef|",
        "BLC|hans|0123abcdef|1|luke",
        "BLC|hans|0123abcdef|0|luke",
        "OUT|hans|0123abcdef|",
        "GET|hans|0123abcdef|luke",
        "ALL|hans|0123abcdef|luke",
        "DNY|hans|0123abcdef|luke",
        "HEY|hans|0123abcdef",
        "LOGIN_OKAY",
        "LOGIN_FAILED|2",
        "JUST_PENNED|59.99",
        "PENNED|19.92",
        "FAIL",
        "ADR|luke|127.0.0.1|5001",
        "ADR|luke|::1|65535",
        "[hans]: gr\u{fc}ezi \u{1f600}",
    ])
}

/// Connections: frames one behind the other.
fn streams() -> Vec<Vec<u8>> {
    let frame = |content: &[u8]| {
        let mut bytes = Vec::new();
        framed::encode(&String::from_utf8_lossy(content), &mut bytes);
        bytes
    };
    let mut streams: Vec<Vec<u8>> = contents().iter().map(|content| frame(content)).collect();
    streams.push([&b"LIN"[..], b"hans", b"falcon", b"127.0.0.1", b"5001"].map(frame).concat());
    streams.push(b"\0\0\0\0\0\0\0\x01a\0\x01\0\0".to_vec());
    streams.push(b"\0\x01\0\x01x".to_vec());
    streams.push(b"hello\n".to_vec());
    streams
}

/// The frames in `portions`, up to one that is too long; and whether the last one is whole.
fn cut<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<TooLong>, bool) {
    let mut cutter = FrameCutter::default();
    let mut frames = Vec::new();
    for mut portion in portions {
        while let Some(frame) = cutter.next(&mut portion) {
            match frame {
                Ok(frame) => frames.push(frame),
                Err(error) => return (frames, Some(error), false),
            }
        }
    }
    (frames, None, cutter.is_between())
}

/// The same, said in another way.
fn cut_plainly(mut input: &[u8]) -> (Vec<Vec<u8>>, Option<TooLong>, bool) {
    let mut frames = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return (frames, Some(TooLong), false);
        }
        let Some((frame, rest)) = rest.split_at_checked(length) else { return (frames, None, false) };
        frames.push(frame.to_vec());
        input = rest;
    }
    (frames, None, input.is_empty())
}

#[test]
fn frames_of_any_bytes() {
    torture(INPUTS, &streams(), |input| {
        let mut cutter = FrameCutter::default();
        let (mut rest, mut bytes) = (input, 0);
        while let Some(Ok(frame)) = cutter.next(&mut rest) {
            assert!(frame.len() <= FRAME_BYTES_MAX);
            bytes += 4 + frame.len();
        }
        assert!(bytes <= input.len());
    });
}

#[test]
fn frames_do_not_depend_on_how_they_arrive() {
    torture(FEWER_INPUTS, &streams(), |input| {
        let whole = cut_plainly(input);
        assert_eq!(cut([input]), whole, "not what the words say");
        assert_eq!(cut(input.chunks(1)), whole, "another result byte by byte");
        let mut dice = Dice::new(u64::from(crc32fast::hash(input)));
        let mut rest = input;
        let portions = std::iter::from_fn(|| {
            let (portion, after) = rest.split_at(1 + dice.roll(rest.len().max(1)).min(rest.len().checked_sub(1)?));
            rest = after;
            Some(portion)
        });
        assert_eq!(cut(portions), whole, "another result in portions");
    });
}

#[test]
fn requests_of_any_bytes() {
    torture(INPUTS, &contents(), |input| {
        let Ok(asked) = framed::parse(input) else { return };
        // What was understood can be said, and means the same.
        let again = asked.spell().expect("a request has words");
        assert_eq!(framed::parse(again.as_bytes()), Ok(asked));
        if let Asked::Act { user, token, .. } = asked {
            assert!(!user.contains('|') && !token.contains('|'));
        }
    });
}

#[test]
fn answers_and_pushes_of_any_text() {
    torture(INPUTS, &contents(), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let _ = framed::parse_reply(text);
        match framed::parse_push(text) {
            push @ Push::Address { user, host, .. } => {
                assert!(!user.contains('|') && !host.contains('|'));
                assert_eq!(framed::parse_push(&push.spell()), push);
            }
            // What is not an address does not look like one either when it is passed on.
            push @ Push::Text(_) => assert!(!push.spell().starts_with("ADR")),
        }
        assert!(!framed::flatten(text).contains(['\r', '\n']));
    });
}

//! Bytes cut into lines, bounded; and a line's bytes made into text.

use std::borrow::Cow;

/// Longest line after login, in bytes without its end; a longer one is dropped with an error.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// Longest line before login, in bytes; a longer one ends the connection.
pub const LOGIN_LINE_BYTES_MAX: usize = 4 * 1024;

/// One line as it was cut, its LF removed.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line of at most [`LINE_BYTES_MAX`] bytes.
    Whole(&'a [u8]),
    /// A longer line: told once, when the limit is passed; its rest is skipped.
    Overlong,
}

/// Cuts lines out of bytes that arrive in any portions; holds at most one started line.
#[derive(Debug, Default)]
pub struct LineCutter {
    started: Vec<u8>,
    /// The last answer came from `started`, which is cleared at the next call.
    spent: bool,
    /// Inside a line that was reported as overlong.
    skipping: bool,
}

impl LineCutter {
    /// Takes the next line from the front of `input`; `None` once `input` is used up.
    pub fn next<'c, 'i: 'c>(&'c mut self, input: &mut &'i [u8]) -> Option<Line<'c>> {
        if self.spent {
            self.started = Vec::new();
            self.spent = false;
        }
        loop {
            let Some(end) = memchr::memchr(b'\n', input) else {
                return self.keep(std::mem::take(input));
            };
            let (head, rest) = input.split_at(end);
            *input = &rest[1..];
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.started.len() + head.len() > LINE_BYTES_MAX {
                self.started = Vec::new();
                return Some(Line::Overlong);
            }
            if self.started.is_empty() {
                return Some(Line::Whole(head));
            }
            self.started.extend_from_slice(head);
            self.spent = true;
            return Some(Line::Whole(&self.started));
        }
    }

    /// The started line when no more input will come: an end of input ends a line too.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.started);
        let whole = !std::mem::take(&mut self.spent) && !std::mem::take(&mut self.skipping);
        (whole && !rest.is_empty()).then_some(rest)
    }

    fn keep(&mut self, part: &[u8]) -> Option<Line<'static>> {
        if self.skipping {
            return None;
        }
        if self.started.len() + part.len() > LINE_BYTES_MAX {
            self.started = Vec::new();
            self.skipping = true;
            return Some(Line::Overlong);
        }
        self.started.extend_from_slice(part);
        None
    }
}

/// A line is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUtf8;

/// Reads a line as text: one CR at its end is dropped, telnet commands are swallowed.
pub fn text(line: &[u8]) -> Result<Cow<'_, str>, NotUtf8> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        // 0xFF never occurs in UTF-8, so only a line that failed can hold telnet commands.
        Err(_) => String::from_utf8(without_telnet(line)).map(Cow::Owned).map_err(|_| NotUtf8),
    }
}

/// Drops telnet commands (RFC 854): two bytes, three for negotiations, blocks up to `IAC SE`.
fn without_telnet(line: &[u8]) -> Vec<u8> {
    const IAC: u8 = 255;
    const SE: u8 = 240;
    const SB: u8 = 250;
    let mut kept = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (IAC, [SB, block @ ..]) => {
                let end = block.windows(2).position(|pair| pair == [IAC, SE]);
                end.map_or(&[][..], |at| &block[at + 2..])
            }
            (IAC, [251..=254, _, after @ ..]) => after,
            (IAC, [_, after @ ..]) => after,
            (IAC, []) => &[],
            _ => {
                kept.push(byte);
                tail
            }
        };
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a cutter says of `portions`, the unfinished last line included.
    fn cut<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
        let mut cutter = LineCutter::default();
        let mut lines = Vec::new();
        for mut portion in portions {
            loop {
                match cutter.next(&mut portion) {
                    Some(Line::Whole(line)) => lines.push(Some(line.to_vec())),
                    Some(Line::Overlong) => lines.push(None),
                    None => break,
                }
            }
            assert!(cutter.started.len() <= LINE_BYTES_MAX);
        }
        lines.extend(cutter.finish().map(Some));
        lines
    }

    #[test]
    fn glued_and_split_lines_are_the_same_lines() {
        let want = vec![Some(b"hans".to_vec()), Some(b"falcon".to_vec()), Some(b"who".to_vec())];
        assert_eq!(cut([&b"hans\nfalcon\nwho"[..]]), want);
        assert_eq!(cut(b"hans\nfalcon\nwho".chunks(1)), want);
    }

    #[test]
    fn an_overlong_line_is_told_once_and_the_next_is_whole() {
        let mut input = vec![b'x'; LINE_BYTES_MAX + 1];
        input.extend_from_slice(b"\nok\n");
        for size in [1, 7, 1024, input.len()] {
            assert_eq!(cut(input.chunks(size)), vec![None, Some(b"ok".to_vec())], "portions of {size}");
        }
        let longest = vec![b'y'; LINE_BYTES_MAX];
        assert_eq!(cut([&longest[..], &b"\n"[..]]), vec![Some(longest)]);
    }

    #[test]
    fn carriage_returns_and_telnet_commands_are_not_text() {
        assert_eq!(text(b"who\r").as_deref(), Ok("who"));
        assert_eq!(text(b"\xff\xfb\x1fwho\xff\xfa\x1f\x00\x50\xff\xf0else\xff\xf1").as_deref(), Ok("whoelse"));
        assert_eq!(text(b"\xc3\x28"), Err(NotUtf8));
        assert_eq!(text(b"who\xff").as_deref(), Ok("who"));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            parts in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), 0..40),
            long in 0usize..3, at in 0usize..40, size in 1usize..5000,
        ) {
            let mut all: Vec<u8> = parts.concat();
            let at = at.min(all.len());
            all.splice(at..at, std::iter::repeat_n(b'z', long * 6000));
            prop_assert_eq!(cut([&all[..]]), cut(all.chunks(size)));
            prop_assert_eq!(cut([&all[..]]), cut(all.chunks(1)));
        }

        #[test]
        fn text_never_panics(line in prop::collection::vec(prop_oneof![250u8..=255, any::<u8>()], 0..64)) {
            let _ = text(&line);
        }
    }
}

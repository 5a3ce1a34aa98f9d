//! What the clients without a line port show: those that talk directly, and by datagrams.

use crate::wire::name::Text;

/// One line for the screen. What others have typed is harmless in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Somebody says something.
    Said {
        /// Who.
        from: Text,
        /// What.
        text: Text,
        /// When it came, in milliseconds since 1970.
        when: i64,
    },
    /// A line as a server or another client has written it, harmless.
    Pushed {
        /// The line.
        text: String,
        /// When it came, in milliseconds since 1970.
        when: i64,
    },
    /// Something has happened.
    News(String),
    /// The answer to a command.
    Answer(String),
    /// Something that was typed cannot be done, and why.
    Refused(String),
}

impl Told {
    /// Somebody says something, made harmless.
    pub fn said(from: &str, text: &str, when: i64) -> Self {
        Self::Said { from: Text::harmless(from), text: Text::harmless(text), when }
    }
}

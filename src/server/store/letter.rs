//! A message as a row: its columns, and the checksum that says whether they can be trusted.

use std::borrow::Cow;

use rusqlite::types::ValueRef;

use crate::wire::name::{GroupName, Text, UserName};
use crate::wire::{Letter, Road, Scope};

/// What a stored row says, or `None` if it is not what was written.
///
/// The columns are the number, the sender's name, the time in milliseconds since 1970, whether it
/// may be a repetition, the text, the [`checksum`] over all columns, to whom it was said, and whether
/// a receipt is wanted.
pub fn read_letter(receiver: &UserName, columns: [ValueRef<'_>; 8]) -> Option<Letter> {
    let number = |column: usize| columns[column].as_i64().ok();
    let (id, sent, again, crc) = (number(0)?, number(2)?, number(3)?, number(5)?);
    let (sender, text) = (columns[1].as_str().ok()?, columns[4].as_str().ok()?);
    let (scope, receipt) = (columns[6].as_str_or_null().ok()?, number(7)? == 1);
    if crc != checksum([receiver.as_str(), sender, text], [id, sent, again], scope, receipt) {
        return None;
    }
    Some(Letter {
        number: u64::try_from(id).ok()?,
        from: UserName::parse(sender).ok()?,
        text: Text::harmless(text),
        sent,
        road: if again == 1 { Road::Again } else { Road::Mail },
        scope: read_scope(scope)?,
        receipt,
    })
}

pub(super) fn scope_word(scope: &Scope) -> Option<Cow<'static, str>> {
    match scope {
        Scope::Plain => None,
        Scope::General => Some("general".into()),
        Scope::Group(group) => Some(format!("group {group}").into()),
    }
}

fn read_scope(word: Option<&str>) -> Option<Scope> {
    match word {
        None => Some(Scope::Plain),
        Some("general") => Some(Scope::General),
        Some(word) => GroupName::parse(word.strip_prefix("group ")?).map(Scope::Group),
    }
}

/// The CRC-32 of a message: receiver, sender and text; number, time of sending and repetition; to
/// whom it was said and whether a receipt is wanted.
///
/// Every word goes in behind its length, so that no two messages read the same. What version 2
/// did not know goes in only where it says something, so that old sums hold.
pub fn checksum(words: [&str; 3], numbers: [i64; 3], scope: Option<&str>, receipt: bool) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for word in words.into_iter().chain(scope) {
        hasher.update(&(word.len() as u64).to_le_bytes());
        hasher.update(word.as_bytes());
    }
    for number in numbers.into_iter().chain(receipt.then_some(1)) {
        hasher.update(&number.to_le_bytes());
    }
    i64::from(hasher.finalize())
}

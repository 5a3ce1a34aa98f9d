//! What happens at the limits, on the pure state: too many lines for a transcript.

use chinwag::server::state::{MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX, UNCONFIRMED_MAX};

use crate::play::{Act, Setup, Stage};
use crate::pure::Pure;

const SETUP: Setup = Setup { block: 60, timeout: 120, hide_blockers: false, allow_new_users: false };

fn say(stage: &mut Pure, name: char, line: &str) -> Vec<String> {
    stage.perform(&Act::Send(name, line.to_owned()))
}

/// The last words of the texts that `name` was shown.
fn texts(seen: &[String], name: char) -> Vec<&str> {
    let prefix = format!("{name}< ");
    let lines = seen.iter().filter_map(|line| line.strip_prefix(&prefix));
    lines.filter(|line| line.contains("yoda: ")).filter_map(|line| line.rsplit(' ').next()).collect()
}

#[test]
fn a_mailbox_holds_so_many_messages_and_delivers_them_in_pages_in_order() {
    let mut stage = Pure::new(&SETUP);
    say(&mut stage, 'a', "yoda wise");
    for number in 0..MAILBOX_MESSAGES_MAX {
        let seen = say(&mut stage, 'a', &format!("message hans {number}"));
        assert!(seen.last().is_some_and(|line| line.ends_with("message stored")), "{number}: {seen:?}");
    }
    let seen = say(&mut stage, 'a', "message hans one too many");
    assert_eq!(seen, ["a< Error. The mailbox of hans is full, message not stored"]);

    let seen = say(&mut stage, 'b', "hans falcon");
    let numbers: Vec<String> = (0..MAILBOX_MESSAGES_MAX).map(|number| number.to_string()).collect();
    assert_eq!(texts(&seen, 'b'), numbers);
    // What has been read makes room, but for the last ones, which are not yet confirmed.
    say(&mut stage, 'b', "logout");
    let seen = say(&mut stage, 'a', "message hans again");
    assert!(seen.last().is_some_and(|line| line.ends_with("message stored")), "{seen:?}");
    assert_eq!(texts(&say(&mut stage, 'b', "hans falcon"), 'b'), ["again"]);
}

#[test]
fn a_mailbox_holds_so_many_bytes() {
    let mut stage = Pure::new(&SETUP);
    say(&mut stage, 'a', "yoda wise");
    let text = "x".repeat(8000);
    let fits = MAILBOX_BYTES_MAX / text.len();
    for _ in 0..fits {
        let seen = say(&mut stage, 'a', &format!("message hans {text}"));
        assert!(seen.last().is_some_and(|line| line.ends_with("message stored")), "{seen:?}");
    }
    let seen = say(&mut stage, 'a', &format!("message hans {text}"));
    assert_eq!(seen, ["a< Error. The mailbox of hans is full, message not stored"]);
    let shown = say(&mut stage, 'b', "hans falcon").iter().filter(|line| line.ends_with(&text)).count();
    assert_eq!(shown, fits);
}

#[test]
fn a_client_that_does_not_read_gets_everything_later_and_in_order() {
    let mut stage = Pure::new(&SETUP);
    say(&mut stage, 'a', "yoda wise");
    say(&mut stage, 'b', "hans falcon");
    stage.perform(&Act::Stall('b'));
    let sent = 3 * UNCONFIRMED_MAX;
    let mut shown = Vec::new();
    let mut stored = 0;
    for number in 0..sent {
        let seen = say(&mut stage, 'a', &format!("message hans {number}"));
        stored += seen.iter().filter(|line| line.starts_with("store message")).count();
        shown.extend(seen);
    }
    assert_eq!((texts(&shown, 'b').len(), stored), (UNCONFIRMED_MAX, sent - UNCONFIRMED_MAX));
    shown.extend(stage.perform(&Act::Drain('b')));
    shown.extend(say(&mut stage, 'a', &format!("message hans {sent}")));
    let numbers: Vec<String> = (0..=sent).map(|number| number.to_string()).collect();
    assert_eq!(texts(&shown, 'b'), numbers);
}

#[test]
fn a_connection_that_breaks_returns_exactly_the_unconfirmed_texts() {
    let mut stage = Pure::new(&SETUP);
    say(&mut stage, 'a', "yoda wise");
    say(&mut stage, 'b', "hans falcon");
    let sent = 2 * UNCONFIRMED_MAX;
    for number in 0..sent {
        say(&mut stage, 'a', &format!("message hans {number}"));
    }
    stage.perform(&Act::Cut('b'));
    let seen = say(&mut stage, 'b', "hans falcon");
    let numbers: Vec<String> = (sent - UNCONFIRMED_MAX..sent).map(|number| number.to_string()).collect();
    assert_eq!(texts(&seen, 'b'), numbers);
    assert!(seen.iter().filter(|line| line.contains("yoda: ")).all(|line| line.contains("perhaps repeated")));
}

#[test]
fn a_long_list_comes_in_pages_before_the_next_answer() {
    let names: Vec<String> = (0..1200).map(|number| format!("u{number:04}")).collect();
    let accounts = names.iter().map(|name| (name.clone(), "secret".to_owned()));
    let mut stage = Pure::with_accounts(&SETUP, accounts);
    for (at, name) in names.iter().enumerate() {
        let client = char::from_u32(0x4e00 + u32::try_from(at).expect("few")).expect("a character");
        say(&mut stage, client, &format!("{name} secret"));
    }
    let asker = '\u{4e00}';
    let seen = say(&mut stage, asker, "whoelse");
    let want: Vec<String> = names[1..].iter().map(|name| format!("{asker}< {name}")).collect();
    assert_eq!(seen, want);
    assert_eq!(say(&mut stage, asker, "whoelse now"), [format!("{asker}< Error. Usage: whoelse")]);
}

#[test]
fn our_client_confirms_page_by_page_and_its_ping_is_answered_after_them() {
    let mut stage = Pure::new(&SETUP);
    say(&mut stage, 'a', "yoda wise");
    let sent = 3 * UNCONFIRMED_MAX + 5;
    for number in 0..sent {
        say(&mut stage, 'a', &format!("message hans {number}"));
    }
    for line in ["HELLO chinwag/1 line", "LOGIN hans 0"] {
        say(&mut stage, 'b', line);
    }
    let mut seen = say(&mut stage, 'b', "falcon");
    seen.extend(say(&mut stage, 'b', "PING"));
    // Each page is confirmed by its last number; only then comes the next.
    let mut shown: Vec<String> = Vec::new();
    while let Some(last) = seen.iter().rev().find(|line| line.starts_with("b< said ")) {
        let number = last.split(' ').nth(2).expect("a number").to_owned();
        let page = seen.iter().filter(|line| line.starts_with("b< said "));
        shown.extend(page.map(|line| line.rsplit(' ').next().expect("a text").to_owned()));
        assert_eq!(shown.len() == sent, seen.iter().any(|line| line == "b< pong"), "{seen:?}");
        seen = say(&mut stage, 'b', &format!("SEEN {number}"));
    }
    let numbers: Vec<String> = (0..sent).map(|number| number.to_string()).collect();
    assert_eq!(shown, numbers);
}

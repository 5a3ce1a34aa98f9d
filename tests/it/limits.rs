//! What happens at the limits, on the pure state: too many lines for a transcript.

use chinwag::server::ids::ConnId;
use chinwag::server::state::{
    CROWD_MIN, Effect, Event, GROUP_MEMBERS_MAX, GROUP_NAMES_MAX, GROUPS_MAX, GROUPS_OWNED_MAX, GroupId,
    MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX, RECEIPTS_MAX, Remembered, Rules, State, UNCONFIRMED_MAX,
};
use chinwag::wire::name::{GroupName, UserName};
use chinwag::wire::time::Moment;
use chinwag::wire::{Notice, Refusal};

use crate::play::{Act, Setup, Stage};
use crate::pure::Pure;

const SETUP: Setup = Setup {
    block: 60,
    timeout: 120,
    hide_blockers: false,
    ask_private: false,
    mailbox_max: MAILBOX_MESSAGES_MAX,
    allow_new_users: false,
};

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

#[test]
fn a_line_is_carried_out_once_however_often_the_mode_is_sought_meanwhile() {
    let mut stage = Pure::new(&SETUP);
    for line in ["HELLO chinwag/1 line", "LOGIN yoda 0", "wise", "#7.1 message hans once", "#7.2 block vader"] {
        say(&mut stage, 'a', line);
    }
    // After each dead link our client enters its mode with new tags.
    for number in 3..1000 {
        let word = if number % 2 == 0 { "/exit" } else { "/group" };
        say(&mut stage, 'a', &format!("#7.{number} {word}"));
    }
    let never = |line: &str| line.starts_with("store message") || line.starts_with("store block");
    for (line, answer) in [("#7.1 message hans once", "a< stored hans"), ("#7.2 block vader", "a< blocked vader")] {
        let seen = say(&mut stage, 'a', line);
        assert!(seen.iter().any(|line| line == answer) && !seen.iter().any(|line| never(line)), "{seen:?}");
    }
    assert_eq!(texts(&say(&mut stage, 'b', "hans falcon"), 'b'), ["once"]);
}

/// Accounts `u0`, `u1` and so on.
fn crowd(users: usize) -> Pure {
    Pure::with_accounts(&SETUP, (0..users).map(|number| (format!("u{number}"), "secret".to_owned())))
}

/// `u<from>` to the one before `u<end>`.
fn names(from: usize, end: usize) -> String {
    (from..end).map(|number| format!("u{number}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_group_has_so_many_members_and_a_command_so_many_names() {
    let mut stage = crowd(GROUP_MEMBERS_MAX + 2);
    say(&mut stage, 'a', "u0 secret");
    let seen = say(&mut stage, 'a', &format!("group create g {}", names(1, 2 + GROUP_NAMES_MAX)));
    assert_eq!(seen, [format!("a< Error. Too many names, {GROUP_NAMES_MAX} at most in one command")]);
    say(&mut stage, 'a', "group create g");
    for from in (1..GROUP_MEMBERS_MAX).step_by(GROUP_NAMES_MAX) {
        let end = (from + GROUP_NAMES_MAX).min(GROUP_MEMBERS_MAX);
        let seen = say(&mut stage, 'a', &format!("group add g {}", names(from, end)));
        assert!(seen.iter().any(|line| line.starts_with("a< u0 added u")), "{seen:?}");
    }
    let seen = say(&mut stage, 'a', &format!("group add g u{GROUP_MEMBERS_MAX}"));
    assert_eq!(seen, [format!("a< Error. g would have more than {GROUP_MEMBERS_MAX} members")]);
    assert_eq!(say(&mut stage, 'a', "groups"), [format!("a< g (yours, {GROUP_MEMBERS_MAX} members)")]);
    say(&mut stage, 'a', "group kick g u1");
    let seen = say(&mut stage, 'a', &format!("group add g u{GROUP_MEMBERS_MAX}"));
    assert!(seen.iter().any(|line| line.starts_with("a< u0 added u")), "{seen:?}");
}

#[test]
fn a_user_owns_so_many_groups_also_by_gift() {
    let mut stage = crowd(2);
    say(&mut stage, 'a', "u0 secret");
    say(&mut stage, 'b', "u1 secret");
    for number in 0..GROUPS_OWNED_MAX {
        let seen = say(&mut stage, 'a', &format!("group create g{number}"));
        assert!(seen.iter().any(|line| line.ends_with(&format!("created the group g{number}"))), "{seen:?}");
    }
    let refused = format!("a< Error. You own {GROUPS_OWNED_MAX} groups, nobody may own more");
    assert_eq!(say(&mut stage, 'a', "group create one-more"), [refused]);
    say(&mut stage, 'b', "group create gift u0");
    let refused = format!("b< Error. u0 owns {GROUPS_OWNED_MAX} groups, nobody may own more");
    assert_eq!(say(&mut stage, 'b', "group owner gift u0"), [refused]);
    say(&mut stage, 'a', "group delete g0");
    let seen = say(&mut stage, 'b', "group owner gift u0");
    assert!(seen.contains(&"b< u1 made u0 the owner of gift".to_owned()), "{seen:?}");
}

#[test]
fn the_server_has_room_for_so_many_groups() {
    let legal = |word: &str| UserName::parse(word).expect("legal");
    let group = |number: usize| {
        let name = GroupName::parse(&format!("g{number}")).expect("legal");
        (GroupId(number as u64), name, legal("other"), vec![legal("other")])
    };
    let groups = (1..=GROUPS_MAX).map(group).collect();
    let remembered = Remembered { groups, first_number: 1 << 40, ..Remembered::default() };
    let rules = Rules {
        block: 0,
        timeout: 10_000,
        heartbeat_timeout: 30_000,
        allow_new_users: false,
        hide_blockers: false,
        ask_private: false,
        mailbox_max: MAILBOX_MESSAGES_MAX,
        lobby_max: 4,
    };
    let now = Moment { elapsed: 0, wall: 0 };
    let mut state = State::new(rules, [(legal("hans"), "falcon".to_owned())], remembered, now, || 7);
    let mut effects = Vec::new();
    state.handle(now, Event::Opened(ConnId(1), [127, 0, 0, 1].into()), &mut effects);
    for line in ["hans falcon", "group create one-more"] {
        state.handle(now, Event::Line(ConnId(1), line.as_bytes()), &mut effects);
    }
    let refusal = Notice::Refused(Refusal::GroupsFull { max: GROUPS_MAX });
    assert_eq!(effects.last(), Some(&Effect::Send(ConnId(1), refusal)));
}

#[test]
fn so_many_receipts_wait_and_one_line_says_that_there_were_more() {
    let readers = RECEIPTS_MAX + 1;
    let mut stage = crowd(readers + 1);
    // Everybody must have been here, or the text would not wait for him.
    for number in (1..=readers).chain([0]) {
        say(&mut stage, 'a', &format!("u{number} secret"));
        if number > 0 {
            say(&mut stage, 'a', "logout");
        }
    }
    say(&mut stage, 'a', "/general");
    say(&mut stage, 'a', "hello");
    say(&mut stage, 'a', "/leave");
    for number in 1..=readers {
        say(&mut stage, 'b', &format!("u{number} secret"));
        say(&mut stage, 'b', "logout");
    }
    let seen = say(&mut stage, 'a', "u0 secret");
    assert_eq!(seen.iter().filter(|line| line.starts_with("a< [seen by u")).count(), RECEIPTS_MAX);
    let dropped = format!("a< [more than {RECEIPTS_MAX} users read what you had sent: some are not named]");
    assert_eq!(seen.last(), Some(&dropped));
}

#[test]
fn a_receipt_names_a_hundred_readers_and_counts_the_others() {
    let mut stage = crowd(110);
    let clients: Vec<char> = ('A'..).take(110).collect();
    for (number, &client) in clients.iter().enumerate() {
        say(&mut stage, client, &format!("u{number} secret"));
    }
    say(&mut stage, 'A', "/general");
    let seen = say(&mut stage, 'A', "hello");
    let receipt = seen.iter().find(|line| line.starts_with("A< [seen by u1, u10, u100, u101")).expect("a receipt");
    assert!(receipt.ends_with(" and 9 more]"), "{receipt}");
}

#[test]
fn a_text_to_many_says_once_that_some_mailboxes_are_full() {
    let mut stage = Pure::new(&SETUP);
    say(&mut stage, 'a', "yoda wise");
    say(&mut stage, 'a', "group create g hans luke");
    for number in 0..MAILBOX_MESSAGES_MAX {
        say(&mut stage, 'a', &format!("message hans {number}"));
    }
    let seen = say(&mut stage, 'a', "group send g hello");
    let full = "a< Some mailboxes are full, not everybody will get your message".to_owned();
    let stored = "a< Sent to g: stored for luke (never online yet)".to_owned();
    assert_eq!(seen, ["store message from yoda to luke".to_owned(), full, stored]);
}

#[test]
fn a_crowd_is_told_together_who_came_and_went() {
    // A millisecond for each ten who are here.
    const MILLIS: i64 = CROWD_MIN as i64 / 10;
    let mut stage = crowd(CROWD_MIN + 5);
    let clients: Vec<char> = ('\u{4e00}'..).take(CROWD_MIN + 5).collect();
    let [first, x, y, z, last] = [0, CROWD_MIN, CROWD_MIN + 1, CROWD_MIN + 2, CROWD_MIN + 3].map(|at| clients[at]);
    let log_in = |stage: &mut Pure, number: usize| say(stage, clients[number], &format!("u{number} secret"));
    let heard = |seen: &[String], who: char| -> Vec<String> {
        let prefix = format!("{who}< ");
        seen.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    let names = [CROWD_MIN, CROWD_MIN + 1, CROWD_MIN + 2].map(|number| format!("u{number}"));
    let [came_x, came_y, came_z] = names.each_ref().map(|name| format!("{name} logged in"));

    // As long as few are here, everybody hears at once.
    log_in(&mut stage, CROWD_MIN + 1);
    say(&mut stage, y, "block u1");
    say(&mut stage, y, "logout");
    for number in 0..CROWD_MIN {
        let seen = log_in(&mut stage, number);
        assert!(number == 0 || heard(&seen, first) == [format!("u{number} logged in")]);
    }

    // Then only after a while, each what happened since he came, and nobody of who blocks him.
    let seen = [log_in(&mut stage, CROWD_MIN), log_in(&mut stage, CROWD_MIN + 1)].concat();
    let seen = [seen, stage.perform(&Act::Pass(MILLIS - 1))].concat();
    assert_eq!(heard(&seen, first), [""; 0]);
    let seen = stage.perform(&Act::Pass(1));
    assert_eq!(heard(&seen, first), [came_x.clone(), came_y.clone()]);
    assert_eq!(heard(&seen, clients[1]), [came_x]);
    assert_eq!(heard(&seen, x), [came_y]);
    assert_eq!(heard(&seen, y), [""; 0]);

    // Who speaks is announced before; who has gone and come is told of both.
    say(&mut stage, x, "logout");
    log_in(&mut stage, CROWD_MIN + 2);
    let seen = say(&mut stage, z, "message u0 hello");
    let left_x = format!("{} logged out", names[0]);
    assert_eq!(heard(&seen, first), [left_x.clone(), came_z, format!("{}: hello", names[2])]);
    log_in(&mut stage, CROWD_MIN + 3);
    say(&mut stage, last, "logout");
    let seen = stage.perform(&Act::Pass(MILLIS));
    assert_eq!(heard(&seen, first).len(), 2, "{seen:?}");
    assert!(heard(&seen, z).iter().all(|line| *line != left_x));
}
